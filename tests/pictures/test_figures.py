"""The three pictures, of narrow untrained models on a few Shapes scenes."""

import numpy as np
import pytest
import torch
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.quiver import Quiver
from PIL import Image
from torch import nn

from mmdysample.engine.config import load_config
from mmdysample.pictures.sampling_points import sampling_points

SIZES = {'shapes.train': 16, 'shapes.val': 8}


@pytest.fixture
def load(monkeypatch, shapes):
    monkeypatch.setenv('SHAPES_ROOT', str(shapes))

    def call(experiment, checkpoint=None, **options):
        pytest.importorskip('mmseg' if 'segformer' in experiment or 'depth' in experiment else 'mmdet')
        from mmdysample.pictures.loaded_model import load_model

        config = load_config(f'configs/shapes/{experiment}_dysample_shapes.py', {**SIZES, **options})
        return load_model(config, checkpoint)

    return call


def panels(figure):
    """The axes of a figure, without colour bars."""
    return [ax for ax in figure.findobj(lambda artist: hasattr(artist, 'get_xlim')) if ax.get_label() != '<colorbar>']


def titles(figure):
    return [ax.get_title() for ax in panels(figure)]


def test_arrows_go_as_far_as_a_bias_says(load):
    from mmdysample.pictures.sampling import draw_sampling

    loaded = load('segformer_b1')
    module = loaded.model.get_submodule('decode_head.upsample_modules.2')
    nn.init.zeros_(module.offset.weight)
    # Channels are ordered as (x | y, group, row, column): group 3 looks 0.25 * 4 pixels down.
    module.offset.bias.data.view(2, 4, 2, 2)[1, 2] = 4.0
    figure = draw_sampling(loaded, index=2, module='decode_head.upsample_modules.2', pixels=[(13, 127)])
    assert isinstance(figure, Figure)
    assert figure._repr_png_().startswith(b'\x89PNG')
    assert 'untrained' in figure.get_suptitle()
    arrows = [artist for ax in panels(figure) for artist in ax.collections if isinstance(artist, Quiver)]
    assert len(arrows) == 4  # a panel for each group
    for group, arrow in enumerate(arrows):
        # The map has 16 pixels where the image has 128: pixel (13, 127) is in column 1 of row 15.
        assert [tuple(xy) for xy in arrow.XY] == [(1.25, 15.25), (1.75, 15.25), (1.25, 15.75), (1.75, 15.75)]
        assert arrow.U.tolist() == [0] * 4
        assert arrow.V.tolist() == [float(group == 2)] * 4
        points = [artist.get_offsets() for artist in arrow.axes.collections if isinstance(artist, PathCollection)]
        assert np.array_equal(points[1] - points[0], np.stack((arrow.U, arrow.V), 1))
    assert 'static scope 0.25' in {text.get_text().split('\n')[0] for ax in panels(figure) for text in ax.texts}


def test_a_scope_is_a_heat_map(load):
    from mmdysample.pictures.sampling import draw_sampling

    loaded = load('segformer_b1', **{'model.decode_head.upsample_cfg.type': 'DySample+'})
    for module in loaded.model.decode_head.upsample_modules:
        nn.init.normal_(module.scope.weight, std=0.1)
    figure = draw_sampling(loaded)
    heat = {ax.get_title().split(':')[0]: ax.images[0].get_array() for ax in panels(figure) if ax.images}['dynamic scope']
    assert heat.shape == (32, 32)
    assert 0 < heat.min() < 0.25 < heat.max() < 0.5


def test_padding_is_no_part_of_the_maps(load, tmp_path):
    from mmdysample.pictures.sampling import draw_sampling

    # 120x50 pixels, padded to 128x64 for the network: the image ends in row 12 of 16 and column 29 of 32.
    Image.new('RGB', (120, 50), (200, 100, 50)).save(tmp_path / 'flat.png')
    loaded = load('faster_rcnn', **{'model.neck.upsample_cfg.type': 'DySample+'})
    name = 'neck.upsample_modules.0'
    module = loaded.model.get_submodule(name)
    nn.init.normal_(module.offset.weight, std=0.1)
    nn.init.normal_(module.scope.weight, std=0.1)
    points = []

    def spy(*args):
        points.append(sampling_points(*args))
        return points[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('mmdysample.pictures.sampling.sampling_points', spy)
        figure = draw_sampling(loaded, image=str(tmp_path / 'flat.png'), module=name, pixels=[(119, 49)])
    maps = {ax.get_title(): ax.images[0] for ax in panels(figure) if ax.images}
    distance, scope = points[0].distance[:, :13, :30], points[0].scope[:13, :30]
    assert points[0].scope.shape == (16, 32)
    moved = maps[f'movement: mean {distance.mean():.2g}, largest {distance.max():.2g}']
    assert np.array_equal(moved.get_array(), distance.mean(0))
    assert moved.get_extent() == pytest.approx([0, 120, 52, 0])
    assert np.array_equal(maps[f'dynamic scope: {scope.min():.2f} to {scope.max():.2f}'].get_array(), scope)


def test_features_are_those_of_the_model_and_of_the_others(load):
    from mmdysample.pictures.features import draw_features

    loaded = load('faster_rcnn')
    figure = draw_features(loaded, index=1, upsamplers=['nearest', 'SAPA-B', "dict(type='DySample', groups=2)"])
    whole = [title for title in titles(figure) if title]
    assert whole == [
        '000001.png\nthe image',
        'low-res. map\n16x16',
        "DySample (the model's)\nuntrained",
        'nearest\nno parameters',
        'SAPA-B\nuntrained, guided',
        'DySample (groups=2)\nuntrained',
    ]
    pictures = {ax.get_title(): np.asarray(ax.images[0].get_array()) for ax in panels(figure) if ax.get_title()}
    assert np.array_equal(pictures[whole[3]], pictures[whole[1]].repeat(2, 0).repeat(2, 1))
    # Before training, DySample is all but bilinear interpolation, whatever its groups.
    assert np.allclose(pictures[whole[2]], pictures[whole[5]], atol=0.02)
    assert not np.allclose(pictures[whole[2]], pictures[whole[4]], atol=0.1)


def test_what_is_trained_is_said(load, tmp_path):
    from mmdysample.pictures.features import draw_features

    state = load('segformer_b1').model.state_dict()
    torch.save({'state_dict': state}, tmp_path / 'all.pth')
    torch.save({'state_dict': {key: value for key, value in state.items() if 'upsample_modules.5' not in key}}, tmp_path / 'some.pth')
    for name, expected in (('all.pth', 'trained'), ('some.pth', 'untrained')):
        loaded = load('segformer_b1', str(tmp_path / name))
        assert (loaded.warning is None) == (name == 'all.pth')
        assert f"DySample (the model's)\n{expected}" in titles(draw_features(loaded, upsamplers=['nearest']))


def test_a_guide_that_is_not_there(load):
    from mmdysample.pictures.features import draw_features

    with pytest.raises(ValueError, match='FADE is guided, but decode_head.upsample_modules.3 has no finer map'):
        draw_features(load('depth_swin_t'), upsamplers=['FADE'])


@pytest.mark.parametrize(
    ('experiment', 'legend', 'options'),
    [
        ('segformer_b1', True, {}),
        ('depth_swin_t', False, {}),
        ('panoptic_fpn', True, {}),
        ('mask_rcnn', True, {'model.test_cfg.rcnn.max_per_img': 5}),
    ],
)
def test_predictions_have_a_panel_for_each_model_and_image(load, experiment, legend, options):
    from mmdysample.pictures.image_input import open_image
    from mmdysample.pictures.predictions import draw_predictions

    loaded = load(experiment, **options)
    figure = draw_predictions(loaded, count=2)
    assert len(panels(figure)) == 2 * 2
    assert bool(figure.legends) is legend
    shown = open_image(loaded)
    assert ('masks' in shown.data['data_samples'][0].get('gt_instances', {})) is (experiment in ('panoptic_fpn', 'mask_rcnn'))
    assert len(panels(draw_predictions(loaded, loaded, image=shown.path))) == 3


def test_panoptic_truth_has_a_segment_for_each_thing_and_no_text(load):
    from mmdysample.pictures.contents import ground_truth
    from mmdysample.pictures.image_input import open_image
    from mmdysample.pictures.predictions import draw_predictions

    loaded = load('panoptic_fpn')
    sample = open_image(loaded, index=1).data['data_samples'][0]
    truth = ground_truth(sample, 5)
    things = len(sample.gt_instances)
    stuff = set(np.unique(truth.labels)) & {3, 4}
    assert len(np.unique(truth.segments)) == things + len(stuff)
    for mask, label in zip(sample.gt_instances.masks.to_ndarray().astype(bool), sample.gt_instances.labels):
        assert set(truth.labels[mask]) == {int(label)}
        assert len(set(truth.segments[mask])) == 1
    assert not any(ax.texts for ax in panels(draw_predictions(loaded, count=2)))


def test_two_models_must_speak_of_the_same(load):
    from mmdysample.pictures.predictions import draw_predictions

    with pytest.raises(ValueError, match='have different classes: circle, square, triangle; and circle, square, triangle, wall, ground'):
        draw_predictions(load('faster_rcnn'), load('segformer_b1'))
