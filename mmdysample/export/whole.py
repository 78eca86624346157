"""The part of a model from the normalised image to the outputs of its dense layers."""

from typing import Any

import torch
from torch import Tensor, nn


class Whole(nn.Module):
    """A model without its data preprocessor and without the postprocessing of maps to predictions.

    The output depends on the framework of the model:

    - mmseg: ``logits (B, num_classes, H, W)``, or ``depth (B, 1, H, W)``, at the size of the image.
    - mmdet: the maps of the neck (or of the backbone, if there is no neck), and the outputs of one-stage heads, RPNs and semantic heads.
      Boxes, scores, NMS and the heads on regions are left out.
    - mmdet's transformers with sigmoid scores, such as RT-DETR and DINO: ``boxes (B, Q, 4)``, x1 y1 x2 y2 in pixels of the image, and
      ``scores (B, Q, C)`` of ``Q`` queries and ``C`` classes. They need no NMS.
    - Any other: the model's output.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.gives = 'its output'
        self.heads: tuple[str, ...] = ()
        self.name = ''
        if hasattr(model, 'encode_decode'):
            self.name = 'depth' if 'Depth' in type(model).__name__ else 'logits'
            self.gives = f'the {self.name} at the size of the image'
        elif _has_queries(model):
            self.gives = 'the boxes (x1 y1 x2 y2 in pixels) and scores of each query, which need no NMS'
        elif hasattr(model, 'extract_feat'):
            self.heads = tuple(name for name in ('rpn_head', 'bbox_head', 'semantic_head') if self._is_dense(name))
            maps = 'neck' if getattr(model, 'with_neck', False) else 'backbone'
            self.name = maps
            self.gives = f'the maps of {" and ".join((maps, *self.heads))}, without boxes, scores and NMS'

    def forward(self, image: Tensor) -> Any:
        """Return the outputs of the model's dense layers.

        Args:
            image: ``(B, 3, H, W)``, float32, normalised as by the data preprocessor.
        """
        model: Any = self.model
        if hasattr(model, 'encode_decode'):
            return {self.name: model.encode_decode(image, [{'img_shape': image.shape[2:]}])}
        if not hasattr(model, 'extract_feat'):
            return model(image)
        maps = model.extract_feat(image)
        if _has_queries(model):
            return _boxes_and_scores(model, maps, image)
        return {self.name: maps, **{name: getattr(model, name)(maps) for name in self.heads}}

    def _is_dense(self, name: str) -> bool:
        """Return True if a head takes only the maps. The heads of transformers also take queries."""
        from mmdet.models.detectors import SingleStageDetector, TwoStageDetector

        return isinstance(self.model, (SingleStageDetector, TwoStageDetector)) and isinstance(getattr(self.model, name, None), nn.Module)


def _has_queries(model: Any) -> bool:
    """Return True for a transformer of mmdet whose head returns a score for each class."""
    head = getattr(model, 'bbox_head', None)
    return hasattr(model, 'forward_transformer') and bool(getattr(getattr(head, 'loss_cls', None), 'use_sigmoid', False))


def _boxes_and_scores(model: Any, maps: Any, image: Tensor) -> dict[str, Tensor]:
    """Return the boxes and scores of the last layer, as mmdet computes them before it takes the best ones."""
    from mmdet.structures import DetDataSample

    height, width = image.shape[2:]
    sample = DetDataSample(metainfo=dict(batch_input_shape=(height, width), img_shape=(height, width)))
    scores, boxes = (layers[-1] for layers in model.bbox_head(**model.forward_transformer(maps, [sample] * image.shape[0])))
    centre, size = boxes[..., :2], boxes[..., 2:]
    corners = torch.cat((centre - size / 2, centre + size / 2), dim=-1)
    return {'boxes': corners * corners.new_tensor([width, height, width, height]), 'scores': scores.sigmoid()}
