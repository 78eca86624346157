"""Let mmdet read COCO files as the check of the data has mended them."""

from typing import Any, Optional

from .file import hand_over


class Prepared:
    """Mixin for mmdet's ``COCO`` and ``COCOPanoptic``: take the content of a file from the check, which has parsed and mended it."""

    dataset: dict[str, Any]
    imgToAnns: Any  # noqa: N815 # pycocotools' names
    catToImgs: Any  # noqa: N815

    def __init__(self, annotation_file: Optional[str] = None) -> None:
        content = hand_over(annotation_file) if annotation_file else None
        super().__init__(annotation_file if content is None else None)  # type: ignore[call-arg]
        if content is not None:
            self.dataset = content
            self.createIndex()  # type: ignore[attr-defined]
            self.img_ann_map, self.cat_img_map = self.imgToAnns, self.catToImgs
