"""Panoptic labels in COCO's format."""

from typing import Any

import numpy as np

from mmdysample.frameworks import require
from mmdysample.registry import TRANSFORMS

require('mmdet', 'mmdysample.LoadPanopticAnnotations')

from mmdet.datasets.transforms import LoadAnnotations  # noqa: E402
from mmdet.datasets.transforms import LoadPanopticAnnotations as StockLoadPanopticAnnotations  # noqa: E402


def rgb_to_id(rgb: np.ndarray) -> np.ndarray:
    """Return the ids of segments from COCO's panoptic colours: ``id = R + 256 G + 65536 B``.

    Args:
        rgb: ``(H, W, 3)``, uint8.

    Returns:
        ``(H, W)``, int32.
    """
    r, g, b = np.moveaxis(rgb.astype(np.int32), -1, 0)
    return r + 256 * g + 65536 * b


@TRANSFORMS.register_module()
class LoadPanopticAnnotations(StockLoadPanopticAnnotations):
    """mmdet's transform of the same name without panopticapi, of which mmdet uses only :func:`rgb_to_id`.

    Args:
        with_mask: Whether to load the masks of things.
        with_seg: Whether to load the label map.
        kwargs: As in mmdet's.
    """

    def __init__(self, with_mask: bool = True, with_seg: bool = True, **kwargs: Any) -> None:
        # Call the constructor of the base class, because that of StockLoadPanopticAnnotations raises an error without panopticapi.
        LoadAnnotations.__init__(self, with_mask=with_mask, with_seg=with_seg, with_keypoints=False, **kwargs)
        self.rgb2id = rgb_to_id
