"""From a normalised image to what the dense layers of a model give."""

from typing import Any

from torch import Tensor, nn


class Whole(nn.Module):
    """A model from the image on, without its data preprocessor and without what turns maps into predictions.

    ================  ===============================================================================================
    a model of        gives
    ================  ===============================================================================================
    mmseg             ``logits (B, num_classes, H, W)``, or ``depth (B, 1, H, W)``, at the size of the image
    mmdet             the maps of the neck, and what the heads of one-stage detectors, RPNs and semantic heads make of
                      them; boxes, scores, NMS and what sees regions are left out
    anything else     what it returns
    ================  ===============================================================================================
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.gives = 'what it returns'
        self.heads: tuple[str, ...] = ()
        self.name = ''
        if hasattr(model, 'encode_decode'):
            self.name = 'depth' if 'Depth' in type(model).__name__ else 'logits'
            self.gives = f'the {self.name} at the size of the image'
        elif hasattr(model, 'extract_feat'):
            self.heads = tuple(name for name in ('rpn_head', 'bbox_head', 'semantic_head') if self._is_dense(name))
            maps = 'neck' if getattr(model, 'with_neck', False) else 'backbone'
            self.name = maps
            self.gives = f'the maps of {" and ".join((maps, *self.heads))}, from which boxes, scores and NMS are left to you'

    def forward(self, image: Tensor) -> Any:
        """Run the model.

        Args:
            image: ``(B, 3, H, W)``, float32, normalised as the data preprocessor does it.
        """
        model: Any = self.model
        if hasattr(model, 'encode_decode'):
            return {self.name: model.encode_decode(image, [{'img_shape': image.shape[2:]}])}
        if not hasattr(model, 'extract_feat'):
            return model(image)
        maps = model.extract_feat(image)
        return {self.name: maps, **{name: getattr(model, name)(maps) for name in self.heads}}

    def _is_dense(self, name: str) -> bool:
        """Whether a head takes the maps alone; those of transformers take queries."""
        from mmdet.models.detectors import SingleStageDetector, TwoStageDetector

        return isinstance(self.model, (SingleStageDetector, TwoStageDetector)) and isinstance(getattr(self.model, name, None), nn.Module)
