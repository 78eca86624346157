"""What upsamplers add to a model, as published: one figure a cell, and nothing where none is public.

Sources: Faster R-CNN and Panoptic FPN (ResNet-50) from the READMEs of tiny-smart/dysample and Linwei-Chen/FreqFusion, and SAPA-D from that
of tiny-smart/sapa; SegFormer-B1 from the READMEs and logs of poppinace/fade and the README of tiny-smart/sapa. Counts
drop biases and are cut or rounded to the printed digits. Of DySample in SegFormer-B1, no count is public at first hand.
"""

from typing import NamedTuple


class Added(NamedTuple):
    """What an upsampler adds: parameters as printed, and multiplications in G at 512x512 for SegFormer-B1."""

    faster_rcnn: str = ''
    panoptic_fpn: str = ''
    segformer: str = ''
    segformer_gflops: str = ''


ADDED = {
    'nearest': Added('0', '0', '0', '0'),
    'bilinear': Added(segformer='0', segformer_gflops='0'),
    'deconv': Added('2.4M', '1.8M', '3.5M', '34.4'),
    'pixel_shuffle': Added('9.4M', '7.1M', '3.5M', '34.4'),
    'CARAFE': Added('0.3M', '0.2M', '0.44M', '1.45'),
    'FADE': Added('0.2M', '0.1M', '0.29M', '2.65'),
    'FADE-Lite': Added(segformer='80K', segformer_gflops='0.89'),
    'SAPA-I': Added('0', '', '0', '0.75'),
    'SAPA-B': Added('0.1M', '0.1M', '0.1M', '1.02'),
    'SAPA-D': Added('0.6M', '', '0.8M', '5.3'),
    'IndexNet': Added('8.4M', '6.3M', '12.6M', '30.65'),
    'A2U': Added('0.1M', '29.2K', '0.1M', '0.41'),
    'DySample': Added('32.7K', '24.6K'),
    'DySample+': Added('65.5K', '49.2K'),
    'DySample-S+': Added(panoptic_fpn='6.2K'),
}

WHY_FLOPS_DIFFER = """\
bilinear: published counts take it for the baseline, so for nothing; here it is four multiplications for each number, as in DySample.
deconv: 34.4 counts every tap of the kernel at every output pixel; at stride 2, three out of four of them meet inserted zeros.
SAPA-D: 5.3 comes out if each of the four taps of a bilinear sample counts twice (its weight, and its product)."""

WHY_PARAMETERS_DIFFER = """\
DySample: the published counts leave the biases out, and cut 32,768 to 32.7K. A2U: 29.2K counts the weights of the convolutions alone;
0.1M for four of them (0.04M) is rounded up. pixel_shuffle in SegFormer: 3.5M (tiny-smart/sapa) repeats the row of deconv; six 3x3
convolutions from 256 to 1,024 channels are 14.2M."""
