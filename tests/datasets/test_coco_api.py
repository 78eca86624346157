"""Classes in another order than the annotation file's: numbered, scored and named as in the config."""

import json

import numpy as np
import pytest
import torch

pytest.importorskip('mmdet')
from mmengine.logging import MessageHub
from mmengine.registry import DefaultScope

from mmdysample.datasets.coco.api import ClassOrder, use_prepared_coco

NAMES = ('red', 'green', 'blue')
# The boxes of each image, by class.
BOXES = [dict(red=[0, 0, 20, 20], green=[30, 30, 30, 20]), dict(green=[10, 0, 20, 30], blue=[50, 50, 40, 40])]


@pytest.fixture
def api(monkeypatch):
    """mmdet's COCO class, with the order of the classes."""
    use_prepared_coco()
    DefaultScope.get_instance('test_coco_api', scope_name='mmdet')
    from mmdet.datasets import api_wrappers

    return api_wrappers.COCO


def write(path, order, ids=(1, 2, 3)):
    """Write annotations whose categories have an order and ids."""
    categories = [dict(id=i, name=name) for i, name in zip(ids, order)]
    number = {category['name']: category['id'] for category in categories}
    objects = [(i, name, box) for i, boxes in enumerate(BOXES) for name, box in boxes.items() if name in number]
    annotations = [
        dict(id=k + 1, image_id=i, category_id=number[name], bbox=box, area=box[2] * box[3], iscrowd=0)
        for k, (i, name, box) in enumerate(objects)
    ]
    images = [dict(id=i, file_name=f'{i}.png', width=100, height=100) for i in range(len(BOXES))]
    path.write_text(json.dumps(dict(info={}, images=images, annotations=annotations, categories=categories)))
    return path


@pytest.mark.parametrize('order', [NAMES, NAMES[::-1], ('green', 'red', 'blue')])
@pytest.mark.parametrize('ids', [(1, 2, 3), (7, 3, 5)])
def test_ids_are_in_the_order_of_the_names(api, tmp_path, order, ids):
    coco = api(str(write(tmp_path / 'a.json', order, ids)))
    number = dict(zip(order, ids))
    assert coco.get_cat_ids(cat_names=NAMES) == [number[name] for name in NAMES]
    assert coco.get_cat_ids(cat_names=('blue',)) == [number['blue']]
    assert coco.get_cat_ids() == list(ids)
    assert coco.get_cat_ids(cat_ids=[ids[0]]) == [ids[0]]


def test_a_name_that_the_file_lacks_gets_an_id_of_its_own(api, tmp_path):
    coco = api(str(write(tmp_path / 'a.json', ('green', 'blue'), (4, 9))))
    assert coco.get_cat_ids(cat_names=('red', 'blue', 'grey', 'green')) == [10, 9, 11, 4]
    assert coco.get_cat_ids(cat_names=('grey', 'red')) == [11, 10]
    assert [category['name'] for category in coco.load_cats([10, 11])] == ['red', 'grey']


def test_it_is_put_in_once(api):
    use_prepared_coco()
    from mmdet.datasets import CocoDataset, CocoPanopticDataset, api_wrappers
    from mmdet.evaluation.metrics import coco_metric

    assert CocoDataset.COCOAPI is coco_metric.COCO is api_wrappers.COCO is api
    assert issubclass(CocoPanopticDataset.COCOAPI, ClassOrder)
    assert [cls.__name__ for cls in api.__mro__].count('ClassOrder') == 1


def labels(path, classes):
    """The classes of each image's boxes, by the numbers that the dataset gives them."""
    from mmdet.datasets import CocoDataset

    dataset = CocoDataset(ann_file=str(path), metainfo=dict(classes=classes), data_prefix=dict(img=''), pipeline=[])
    return [{classes[one['bbox_label']]: one['bbox'] for one in dataset.get_data_info(i)['instances']} for i in range(len(dataset))]


def scores(path, classes, metric='CocoMetric', **options):
    """The metrics of predictions with the right boxes of red and green, and no blue."""
    from mmdet.registry import METRICS

    metric = METRICS.build(dict(type=metric, ann_file=str(path), classwise=True, **options))
    metric.dataset_meta = dict(classes=classes)
    for i, boxes in enumerate(BOXES):
        known = [(classes.index(name), [x, y, x + w, y + h]) for name, (x, y, w, h) in boxes.items() if name in classes and name != 'blue']
        corners = torch.tensor([box for _, box in known], dtype=torch.float32)
        instances = dict(bboxes=corners, scores=torch.ones(len(known)), labels=torch.tensor([label for label, _ in known]))
        metric.process({}, [dict(img_id=i, ori_shape=(100, 100), pred_instances=instances)])
    return metric.evaluate(len(BOXES))


@pytest.mark.usefixtures('api')
@pytest.mark.parametrize('order', [NAMES, NAMES[::-1], ('green', 'blue', 'red')])
@pytest.mark.parametrize('ids', [(1, 2, 3), (7, 3, 5)])
def test_boxes_and_scores_keep_their_class(tmp_path, order, ids):
    path = write(tmp_path / 'a.json', order, ids)
    expected = [{name: [x, y, x + w, y + h] for name, (x, y, w, h) in boxes.items()} for boxes in BOXES]
    for classes in (NAMES, order):
        assert labels(path, classes) == expected
        found = scores(path, classes)
        assert found['coco/bbox_mAP'] == pytest.approx(2 / 3, abs=1e-3)
        assert [found[f'coco/{name}_precision'] for name in NAMES] == [1, 1, 0]


@pytest.mark.usefixtures('api')
def test_a_model_of_other_classes_than_the_file(tmp_path):
    """Each class that both know is scored; the others make no difference."""
    path = write(tmp_path / 'a.json', ('green', 'red', 'blue'))
    found = scores(path, ('tree', 'red', 'green'))
    assert found['coco/bbox_mAP'] == 1
    assert np.isnan(found['coco/tree_precision'])
    fewer = write(tmp_path / 'b.json', ('green',))
    assert labels(fewer, NAMES) == [{'green': [30, 30, 60, 50]}, {'green': [10, 0, 30, 30]}]
    assert scores(fewer, NAMES)['coco/bbox_mAP'] == 1


@pytest.fixture(autouse=True)
def _hub():
    MessageHub.get_instance('test_coco_api')
