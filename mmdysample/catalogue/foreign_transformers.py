"""Small models of transformers with random weights."""

from typing import Any

from torch import nn

from .foreign_example import Example, two_images

STAGES = ['stage1', 'stage2', 'stage3', 'stage4']
DENSE: dict[str, Any] = {'neck_hidden_sizes': [16, 32, 64, 64], 'fusion_hidden_size': 64}
VIT: dict[str, Any] = {'hidden_size': 64, 'num_hidden_layers': 4, 'num_attention_heads': 4, 'patch_size': 16, 'image_size': 128}


def _model(kind: str, config: Any) -> Example:
    import transformers

    return Example(getattr(transformers, kind)(config))


def rt_detr(version: str = '') -> Example:
    """Build RT-DETR, or RT-DETRv2 with ``version='V2'``, with a ResNet-18."""
    import transformers

    backbone = transformers.RTDetrResNetConfig(
        hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2], layer_type='basic', out_features=STAGES[1:]
    )
    config = getattr(transformers, f'RTDetr{version}Config')(
        backbone_config=backbone, encoder_in_channels=[128, 256, 512], decoder_layers=3, freeze_backbone_batch_norms=False
    )
    return _spread(_model(f'RTDetr{version}ForObjectDetection', config))


def d_fine() -> Example:
    """Build D-FINE with an HGNetV2."""
    from transformers import DFineConfig

    return _spread(_model('DFineForObjectDetection', DFineConfig(decoder_layers=3, freeze_backbone_batch_norms=False)))


def _spread(example: Example) -> Example:
    """Give the queries scores that differ, so that each runtime picks the same ones."""
    nn.init.normal_(example.model.model.enc_score_head.weight)  # type: ignore[union-attr, arg-type]
    return example


def segformer() -> Example:
    """Build SegFormer."""
    from transformers import SegformerConfig

    return _model('SegformerForSemanticSegmentation', SegformerConfig(num_labels=5))


def mask2former() -> Example:
    """Build Mask2Former."""
    from transformers import Mask2FormerConfig

    config = Mask2FormerConfig(backbone_config=_swin(), encoder_layers=1, decoder_layers=2, num_queries=10)
    return _model('Mask2FormerForUniversalSegmentation', config)


def maskformer() -> Example:
    """Build MaskFormer."""
    from transformers import MaskFormerConfig

    return _model('MaskFormerForInstanceSegmentation', MaskFormerConfig(backbone_config=_swin()))


def _swin() -> Any:
    from transformers import SwinConfig

    return SwinConfig(embed_dim=32, depths=[1, 1, 1, 1], num_heads=[1, 2, 4, 8], out_features=STAGES)


def dpt() -> Example:
    """Build DPT for semantic segmentation, which takes square images only."""
    from transformers import DPTConfig

    config = DPTConfig(**VIT, **DENSE, backbone_out_indices=[0, 1, 2, 3], num_labels=5)
    return _model('DPTForSemanticSegmentation', config)._replace(at=lambda height, width: two_images(height, height))


def depth_anything() -> Example:
    """Build Depth Anything with DINOv2."""
    from transformers import DepthAnythingConfig, Dinov2Config

    backbone = Dinov2Config(**VIT, out_features=STAGES, reshape_hidden_states=False, apply_layernorm=True)
    config = DepthAnythingConfig(backbone_config=backbone, reassemble_hidden_size=64, patch_size=16, **DENSE)
    return _model('DepthAnythingForDepthEstimation', config)


def upernet() -> Example:
    """Build UPerNet with ConvNeXt."""
    from transformers import ConvNextConfig, UperNetConfig

    backbone = ConvNextConfig(hidden_sizes=[32, 64, 96, 128], depths=[1, 1, 1, 1], out_features=STAGES)
    config = UperNetConfig(backbone_config=backbone, hidden_size=64, use_auxiliary_head=False, num_labels=5)
    return _model('UperNetForSemanticSegmentation', config)


TRANSFORMERS = {
    'RTDetrForObjectDetection': rt_detr,
    'RTDetrV2ForObjectDetection': lambda: rt_detr('V2'),
    'DFineForObjectDetection': d_fine,
    'SegformerForSemanticSegmentation': segformer,
    'Mask2FormerForUniversalSegmentation': mask2former,
    'MaskFormerForInstanceSegmentation': maskformer,
    'DPTForSemanticSegmentation': dpt,
    'DepthAnythingForDepthEstimation': depth_anything,
    'UperNetForSemanticSegmentation': upernet,
}
