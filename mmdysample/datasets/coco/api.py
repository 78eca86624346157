"""mmdet's COCO classes, with mended annotations, and with the categories in the order of the classes.

mmdet numbers the classes by ``get_cat_ids(cat_names=classes)``, which returns the ids in the order of the file. A file that lists the same
categories in another order therefore gives each name the boxes of another one, in training as in evaluation.
"""

from collections.abc import Sequence
from typing import Any

from .prepared import Prepared

# pycocotools' arrays of an evaluation, and their axis of categories.
AXES = {'precision': 2, 'scores': 2, 'recall': 1}


class ClassOrder:
    """Mixin for mmdet's ``COCO`` and ``COCOPanoptic``: category ids in the order of the names that they are asked for by."""

    dataset: dict[str, Any]
    cats: dict[int, dict[str, Any]]

    def get_cat_ids(self, cat_names: Sequence[str] = (), sup_names: Sequence[str] = (), cat_ids: Sequence[int] = ()) -> list[int]:
        """Return the ids of categories.

        Args:
            cat_names: Their names; all categories if there are none.
            sup_names: As in pycocotools.
            cat_ids: As in pycocotools.

        Returns:
            If only names are given, one id for each name, in their order. A name that the file lacks gets a new category without
            annotations, so that the other names keep their numbers. Otherwise as in pycocotools.
        """
        if isinstance(cat_names, str) or not cat_names or sup_names or cat_ids:
            return super().get_cat_ids(cat_names, sup_names, cat_ids)  # type: ignore[misc]
        ids = {category['name']: number for number, category in reversed(self.cats.items())}  # the first of two with the same name
        for name in cat_names:
            if name not in ids:
                ids[name] = 1 + max(self.cats, default=0)
                self.cats[ids[name]] = dict(id=ids[name], name=name)
                self.dataset['categories'].append(self.cats[ids[name]])
        return [ids[name] for name in cat_names]


class EvaluationOrder:
    """Mixin for pycocotools' ``COCOeval``: its results keep the order of the category ids, by which mmdet names the AP of each class."""

    params: Any
    eval: dict[str, Any]
    _wanted: Sequence[int] = ()

    def evaluate(self) -> None:
        """Match detections and annotations."""
        self._wanted = list(self.params.catIds)
        super().evaluate()  # type: ignore[misc] # this sorts params.catIds

    def accumulate(self, p: Any = None) -> None:
        """Compute precision and recall."""
        super().accumulate(p)  # type: ignore[misc]
        if self.params.useCats and p is None:
            order = [list(self.params.catIds).index(number) for number in self._wanted]
            for name, axis in AXES.items():
                self.eval[name] = self.eval[name].take(order, axis=axis)


def use_prepared_coco() -> None:
    """Make the datasets and metrics of mmdet, in this process, read what the check of the data has mended.

    They also number the classes as their names are ordered in ``metainfo``.
    """
    from mmdet.datasets import api_wrappers
    from mmdet.evaluation.metrics import coco_metric, coco_panoptic_metric
    from mmdet.registry import DATASETS

    if issubclass(api_wrappers.COCO, ClassOrder):
        return
    stock = {name: getattr(api_wrappers, name) for name in ('COCO', 'COCOPanoptic', 'COCOeval', 'COCOevalMP')}
    ours = {
        name: type(name, ((EvaluationOrder,) if 'eval' in name else (Prepared, ClassOrder)) + (cls,), {}) for name, cls in stock.items()
    }
    for module in (api_wrappers, coco_metric, coco_panoptic_metric):
        for name, cls in ours.items():
            if hasattr(module, name):
                setattr(module, name, cls)
    for dataset in DATASETS.module_dict.values():
        for name, cls in stock.items():
            if getattr(dataset, 'COCOAPI', None) is cls:
                dataset.COCOAPI = ours[name]
