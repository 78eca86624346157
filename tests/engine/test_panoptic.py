import pytest
from mmengine.config import Config

from mmdysample.engine.panoptic import stand_in_for_panopticapi


@pytest.fixture
def config():
    """The parts of a stock config that matter."""
    pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadPanopticAnnotations', with_seg=True)]
    inner = dict(type='CocoPanopticDataset', pipeline=pipeline)
    return Config(
        dict(
            train_dataloader=dict(dataset=dict(type='RepeatDataset', dataset=inner)),
            val_evaluator=[dict(type='mmdet.CocoPanopticMetric', seg_prefix='x'), dict(type='CocoMetric')],
        )
    )


def test_ours_stand_in(config, monkeypatch):
    monkeypatch.setattr('mmdysample.engine.panoptic.find_spec', lambda _: None)
    line = (
        'panopticapi is not installed: mmdysample.CocoPanopticMetric, mmdysample.LoadPanopticAnnotations replace the classes that need it'
    )
    assert stand_in_for_panopticapi(config) == [line]
    assert config.val_evaluator[0] == dict(type='mmdysample.CocoPanopticMetric', seg_prefix='x')
    assert config.val_evaluator[1] == dict(type='CocoMetric')
    load = config.train_dataloader.dataset.dataset.pipeline[1]
    assert load == dict(type='mmdysample.LoadPanopticAnnotations', with_seg=True)
    assert stand_in_for_panopticapi(config) == []


def test_what_is_installed_is_used(config, monkeypatch):
    monkeypatch.setattr('mmdysample.engine.panoptic.find_spec', lambda _: 'there')
    assert stand_in_for_panopticapi(config) == []
    assert config.val_evaluator[0].type == 'mmdet.CocoPanopticMetric'
