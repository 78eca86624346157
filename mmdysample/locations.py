"""The module of each class that needs mmdet, mmseg or mmengine.

A module is imported when its class is first used: if all were imported at once, a detector would need mmseg. This file imports nothing, so
it can be read where no framework is installed.
"""

LOCATIONS = {
    'BoundaryAPMetric': 'mmdysample.evaluation.boundary_ap',
    'BoundaryIoUMetric': 'mmdysample.evaluation.boundary_metric',
    'SegmentationMetric': 'mmdysample.evaluation.segmentation_metric',
    'CoarseHead': 'mmdysample.models.heads.coarse_head',
    'CocoPanopticMetric': 'mmdysample.evaluation.coco_panoptic_metric',
    'DenseDepthHead': 'mmdysample.models.heads.dense_depth_head',
    'DepthMetric': 'mmdysample.evaluation.depth_metric',
    'DetLocalVisualizer': 'mmdysample.pictures.visualizer',
    'DUpsampleHead': 'mmdysample.models.heads.dupsample_head',
    'FCNMaskHead': 'mmdysample.models.heads.fcn_mask_head',
    'FPN': 'mmdysample.models.necks.fpn',
    'LoadPanopticAnnotations': 'mmdysample.datasets.panoptic',
    'NYUDataset': 'mmdysample.datasets.nyu',
    'PixelDecoder': 'mmdysample.models.necks.pixel_decoder',
    'RTDETR': 'mmdysample.models.detectors.rtdetr',
    'RTDETRFusion': 'mmdysample.models.necks.rtdetr_fusion',
    'SegformerHead': 'mmdysample.models.heads.segformer_head',
    'TransformerEncoderPixelDecoder': 'mmdysample.models.necks.pixel_decoder',
    'FullResNet': 'mmdysample.models.backbones.full_resnet',
    'UPerHead': 'mmdysample.models.heads.uper_head',
    'Upsampled': 'mmdysample.replacement.upsampled',
}
