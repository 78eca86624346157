import argparse

import pytest
from mmengine.config import Config

from mmdysample.engine.options import make_parser, read_config
from mmdysample.engine.upsampler import parse_upsampler, use_upsampler

FASTER = 'configs/shapes/faster_rcnn_dysample_shapes.py'
MASK = 'configs/shapes/mask_rcnn_dysample_shapes.py'
SEGFORMER = 'configs/shapes/segformer_b1_dysample_shapes.py'


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('SAPA-B', 'SAPA-B'),
        (' DySample-S+ ', 'DySample-S+'),
        ("dict(type='DySample', groups=2)", dict(type='DySample', groups=2)),
        ("dict(type='DySample', init_cfg=dict(type='Xavier'))", dict(type='DySample', init_cfg=dict(type='Xavier'))),
        ("{'type': 'FADE', 'gating': False}", dict(type='FADE', gating=False)),
    ],
)
def test_a_name_or_a_dict(text, expected):
    assert parse_upsampler(text) == expected


NEITHER = [
    '', '.', '..', '[1]', 'a b', '{', 'dict(groups=2)', "dict('DySample')", "dict(type='A', **x)", "dict(type=open('f'))",
    "{'type': 'DySample', 3: 4}", "{'type': 'A', []: 1}", "dict(type='A', groups=2, groups=4)",
]  # fmt: skip


@pytest.mark.parametrize('text', NEITHER)
def test_neither(text):
    with pytest.raises(ValueError, match='--upsampler takes a name or a dict with a type'):
        parse_upsampler(text)


def test_it_replaces_the_whole_upsampler():
    config = Config.fromfile(FASTER)
    config.model.neck.upsample_cfg = dict(type='DySample', style='pl')
    assert use_upsampler(config, 'SAPA-B') == 'SAPA-B'
    assert config.model.neck.upsample_cfg == dict(type='SAPA-B')
    assert use_upsampler(config, "dict(type='DySample', init_position='nearest', groups=2)") == 'DySample_init_position=nearest_groups=2'
    assert config.model.neck.upsample_cfg == dict(type='DySample', init_position='nearest', groups=2)


def test_the_heads_own_upsampling_stays():
    """Mask R-CNN's mask head has a deconvolution, under the same key; it is mmdet's."""
    config = Config.fromfile(MASK)
    config.model.roi_head.mask_head.upsample_cfg = dict(type='deconv', scale_factor=2)
    use_upsampler(config, 'CARAFE')
    assert config.model.neck.upsample_cfg == dict(type='CARAFE')
    assert config.model.roi_head.mask_head.upsample_cfg.type == 'deconv'


def test_a_module_of_ours_that_does_not_say_which_takes_it():
    config = Config.fromfile(SEGFORMER)
    del config.model.decode_head['upsample_cfg']
    use_upsampler(config, 'carafe')
    assert config.model.decode_head.upsample_cfg == dict(type='CARAFE')


def test_a_module_of_ours_inside_a_stock_head():
    config = Config.fromfile('configs/maskformer_swin_b_dysample.py')
    use_upsampler(config, 'SAPA-B')
    assert config.model.decode_head.type == 'MaskFormerHead'
    assert config.model.decode_head.pixel_decoder.upsample_cfg == dict(type='SAPA-B')
    with pytest.raises(ValueError, match=r'would override --cfg-options model\.decode_head\.pixel_decoder\.upsample_cfg\.groups'):
        use_upsampler(config, 'DySample', {'model.decode_head.pixel_decoder.upsample_cfg.groups': 2})


def test_the_run_is_named_after_it(shapes, monkeypatch, tmp_path):
    monkeypatch.setenv('SHAPES_ROOT', str(shapes))
    arguments = [FASTER, '--upsampler', 'DySample-S+', '--cfg-options', 'shapes.train=16', 'shapes.val=8']
    parser = make_parser('')
    assert isinstance(parser, argparse.ArgumentParser)
    config = read_config(parser.parse_args(arguments), ('train',))
    assert config.work_dir == 'work_dirs/faster_rcnn_dysample_shapes_DySample-S+'
    with pytest.raises(ValueError, match='--upsampler takes a name'):  # an unset variable of a shell
        read_config(parser.parse_args([FASTER, '--upsampler', '', *arguments[3:]]), ('train',))
    config.work_dir = 'work_dirs/of_another_run'
    config.dump(tmp_path / 'saved.py')
    saved = read_config(parser.parse_args([str(tmp_path / 'saved.py'), '--upsampler', 'CARAFE']), ('train',))
    assert saved.work_dir == 'work_dirs/saved_CARAFE'
    config = read_config(parser.parse_args([*arguments, '--work-dir', 'elsewhere']), ('test',), log_to='test')
    assert config.work_dir == 'elsewhere/test'


def test_it_does_not_undo_an_option():
    config, options = Config.fromfile(MASK), {'model.neck.upsample_cfg.groups': 2}
    with pytest.raises(
        ValueError, match=r'--upsampler would override --cfg-options model\.neck\.upsample_cfg\.groups: give all arguments in one option'
    ):
        use_upsampler(config, 'DySample', options)
    use_upsampler(config, 'DySample', {'model.roi_head.mask_head.upsample_cfg.type': 'deconv'})
