"""Every config of the project: nothing in it is dead, and its model is the one that it says."""

import json
import logging
from collections import Counter

import pytest
import torch
from conftest import ROOT
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DATASETS, MODELS, init_default_scope
from PIL import Image

from mmdysample.datasets.custom import Split, use_folder
from mmdysample.datasets.shapes import STUFF, THINGS
from mmdysample.engine.config import unknown_keys
from mmdysample.engine.launch import build_runner
from mmdysample.frameworks import install_command

CONFIGS = sorted(path for path in (ROOT / 'configs').rglob('*.py') if '_base_' not in path.parts)
EXPERIMENTS = [path for path in CONFIGS if path.parent == ROOT / 'configs']
WITH_UPSAMPLER = [path for path in EXPERIMENTS if 'upsample_cfg' in Config.fromfile(path).text]


# OneDL's DINO decoder encodes a box in 1024 numbers, mmdet's in 512, which a layer maps to 256.
BOX_ENCODING = 512 * 256 if install_command('mmdet').startswith('pip install onedl') else 0


def upsampling_part(model):
    """Where a model, or its config, has upsamplers."""
    part = getattr(model, 'neck', None) or model.decode_head
    return getattr(part, 'pixel_decoder', part)


def build(path, **upsample_cfg):
    config = Config.fromfile(ROOT / path)
    pytest.importorskip(config.default_scope)
    init_default_scope(config.default_scope)
    config.model.backbone.init_cfg = None
    if upsample_cfg:
        upsampling_part(config.model).upsample_cfg = upsample_cfg
    return MODELS.build(dict(config.model, _scope_=config.default_scope))


def count(model, trainable=False):
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable)


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_no_key_is_dead(path):
    assert unknown_keys(Config.fromfile(path)) == set()


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_everything_in_it_builds(path, shapes, tmp_path, monkeypatch):
    """Data with its pipelines, loops, evaluators, hooks, optimizer and schedules, over Shapes in place of the real data."""
    monkeypatch.setattr(logging, 'raiseExceptions', False)
    config = Config.fromfile(path)
    pytest.importorskip(config.default_scope)
    config.work_dir, config.model.backbone.init_cfg = str(tmp_path), None
    layout = 'nyu' if config.model.type == 'DepthEstimator' else 'coco' if config.default_scope == 'mmdet' else 'ade'
    classes = (*THINGS, *STUFF) if layout == 'ade' else None
    if path.parent.name == 'nuclei' and layout == 'ade':
        config.model.decode_head.loss_decode.pop('class_weight')  # which is for the classes of the real data
    use_folder(config, str(shapes / layout), {'train': Split(), 'val': Split()}, classes)
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)  # which nobody would wait for
    runner = build_runner(config, to_train=True)
    schedules = runner.build_param_scheduler(runner.param_schedulers)
    assert len(schedules) == len(config.param_scheduler)
    assert len(runner.train_dataloader.dataset) == 16
    assert len(runner.test_loop.dataloader.dataset) == 8


@pytest.fixture(scope='module')
def wide(shapes, tmp_path_factory):
    """One scene of 200x150 pixels for training and one for validation, in each layout."""
    root = tmp_path_factory.mktemp('wide') / 'shapes'
    for path in shapes.rglob('000000.png'):
        (root / path.relative_to(shapes)).parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).resize((200, 150), Image.Resampling.NEAREST).save(root / path.relative_to(shapes))
    for path in (shapes / 'coco/annotations').glob('*.json'):
        content = json.loads(path.read_text())
        content['images'] = [dict(content['images'][0], width=200, height=150)]
        content['annotations'] = [a for a in content['annotations'] if a['image_id'] == content['images'][0]['id']]
        for annotation in content['annotations']:
            annotation['segmentation'] = [[9, 9, 30, 9, 30, 30]]
        (root / path.relative_to(shapes)).write_text(json.dumps(content))
    return root


@pytest.mark.parametrize('path', [path for path in CONFIGS if path.parent.name == 'shapes'], ids=lambda path: path.stem)
def test_a_small_model_trains_and_tests_at_one_scale(path, wide):
    config = Config.fromfile(path)
    pytest.importorskip(config.default_scope)
    layout = 'nyu' if config.model.type == 'DepthEstimator' else 'coco' if config.default_scope == 'mmdet' else 'ade'
    use_folder(config, str(wide / layout), {'train': Split(), 'val': Split()}, (*THINGS, *STUFF) if layout == 'ade' else None)
    init_default_scope(config.default_scope)
    sizes = [DATASETS.build(config[f'{split}_dataloader'].dataset)[0]['inputs'].shape[1:] for split in ('train', 'val', 'test')]
    assert sizes == [(150, 200) if layout == 'coco' else (128, 128), (150, 200), (150, 200)]


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_it_inherits_from_our_bases_alone(path):
    assert '::' not in Config.fromfile(path).text


def test_names_are_unique():
    """MIM finds a config by its name alone."""
    assert max(Counter(path.name for path in CONFIGS).values()) == 1


@pytest.mark.parametrize('path', EXPERIMENTS, ids=lambda path: path.stem)
def test_each_experiment_has_a_twin_on_shapes(path):
    assert (ROOT / 'configs/shapes' / f'{path.stem}_shapes.py').is_file()


@pytest.mark.parametrize(
    ('path', 'upsample_cfg', 'parameters'),
    [
        ('configs/faster_rcnn_dysample.py', dict(type='nearest'), 47061984),
        ('configs/faster_rcnn_dysample.py', dict(mode='nearest'), 47061984),
        ('configs/faster_rcnn_dysample.py', {}, 47061984 + 4 * 8224),
        ('configs/faster_rcnn_dysample.py', dict(type='DySample+'), 47061984 + 4 * 16416),
        ('configs/mask_rcnn_dysample.py', dict(type='nearest'), 49705264),
        ('configs/mask_rcnn_dysample.py', {}, 49705264 + 4 * 8224),
        ('configs/mask_rcnn_dysample.py', dict(type='DySample+'), 49705264 + 4 * 16416),
        ('configs/faster_rcnn_r101_dysample.py', dict(type='nearest'), 66054112),
        ('configs/faster_rcnn_r101_dysample.py', {}, 66054112 + 4 * 8224),
        ('configs/mask_rcnn_r101_dysample.py', dict(type='nearest'), 68697392),
        ('configs/mask_rcnn_r101_dysample.py', {}, 68697392 + 4 * 8224),
        ('configs/panoptic_fpn_dysample.py', dict(type='nearest'), 46027110),
        ('configs/panoptic_fpn_dysample.py', {}, 46027110 + 3 * 8224),
        ('configs/panoptic_fpn_r101_dysample.py', dict(type='nearest'), 65019238),
        ('configs/panoptic_fpn_r101_dysample.py', {}, 65019238 + 3 * 8224),
        ('configs/faster_rcnn_dcn_dysample.py', {}, 47061984 + 4 * 8224 + 871263),
        ('configs/rtdetr_r18_dysample.py', dict(mode='nearest'), 20103920 + BOX_ENCODING),
        ('configs/rtdetr_r18_dysample.py', {}, 20103920 + BOX_ENCODING + 2 * 8224),
        ('configs/yolox_tiny_dysample.py', dict(type='nearest'), 5055855),
        ('configs/yolox_tiny_dysample.py', {}, 5055855 + 6176 + 3104),
        ('configs/rtmdet_tiny_dysample.py', dict(type='nearest'), 4896168),
        ('configs/rtmdet_tiny_dysample.py', {}, 4896168 + 6176 + 3104),
        ('configs/segformer_b1_dysample.py', dict(mode='bilinear'), 13716822),
        ('configs/segformer_b1_dysample.py', dict(type='bilinear'), 13716822),
        ('configs/segformer_b1_dysample.py', {}, 13716822 + 6 * 8224),
        ('configs/segformer_b1_dysample.py', dict(type='DySample-S'), 13716822 + 6 * 1040),
        ('configs/segformer_b1_dysample.py', dict(type='DySample-S+'), 13716822 + 6 * 2064),
        ('configs/depth_swin_t_dysample.py', dict(mode='bilinear'), 35142667),
        ('configs/depth_swin_t_dysample.py', {}, 35142667 + 32 * (768 + 384 + 192 + 96 + 4)),
        ('configs/upernet_r50_dysample.py', dict(mode='bilinear'), 66516108),  # 66.5M are published: with the auxiliary head
        ('configs/upernet_r50_dysample.py', {}, 66516108 + 3 * 16416),
        ('configs/maskformer_swin_b_dysample.py', dict(mode='nearest'), 101829391),  # 102M
        ('configs/maskformer_swin_b_dysample.py', {}, 101829391 + 3 * 8224),
        ('configs/shapes/boundary.py', dict(type='bilinear'), 2825818),
        ('configs/shapes/boundary.py', {}, 2825818 + 5 * (32 * 32 + 32 + 32 * 32)),
    ],
    ids=str,
)
def test_parameters(path, upsample_cfg, parameters):
    reads_numbers = 'segformer' in path or 'swin' in path  # from tensors, in the backbone's constructor
    with torch.device('cpu' if reads_numbers else 'meta'):
        assert count(build(path, **upsample_cfg)) == parameters


@pytest.mark.parametrize(
    ('path', 'parameters'), [('configs/faster_rcnn_dysample.py', 46836640), ('configs/faster_rcnn_r101_dysample.py', 65828768)]
)
def test_trainable_parameters_of_the_papers_table(path, parameters):
    """46.8M in the paper, and 65.83M: the stem and the first stage are frozen."""
    with torch.device('meta'):
        assert count(build(path, type='nearest'), trainable=True) == parameters


@pytest.mark.parametrize('path', [*WITH_UPSAMPLER, ROOT / 'configs/shapes/boundary.py'], ids=lambda path: path.stem)
def test_initialisation_of_the_whole_model(path):
    """The neck's Xavier reaches every convolution below it; the offsets take themselves back."""
    model = build(path, type='DySample+')
    model.init_weights()
    upsamplers = upsampling_part(model).upsample_modules
    for module in upsamplers:
        assert module.offset.weight.std().item() == pytest.approx(0.001, rel=0.1)
        assert module.offset.bias.eq(0).all()
        assert module.scope.weight.eq(0).all()
    if hasattr(getattr(model, 'neck', None), 'fpn_convs'):
        weight = model.neck.lateral_convs[0].conv.weight
        assert weight.std().item() == pytest.approx((2 / (256 + 256)) ** 0.5, rel=0.1)


def test_the_authors_initialisation_is_one_line():
    xavier = dict(type='Xavier', layer='Conv2d', distribution='uniform')
    model = build('configs/faster_rcnn_dysample.py', type='DySample+', init_cfg=xavier)
    model.init_weights()
    for module in model.neck.upsample_modules:
        for conv in (module.offset, module.scope):
            assert conv.weight.std().item() == pytest.approx((2 / (256 + 32)) ** 0.5, rel=0.1)


def test_segformer_runs_at_a_size_that_is_no_multiple():
    model = revert_sync_batchnorm(build('configs/segformer_b1_dysample.py')).eval()
    with torch.no_grad():
        logits = model(torch.randn(1, 3, 72, 104), mode='tensor')
    assert logits.shape == (1, 150, 18, 26)
