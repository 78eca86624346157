"""What is said of an exported file."""

import pytest

pytest.importorskip('mmseg')

from mmdysample.engine.config import load_config
from mmdysample.export.export import _accepted
from mmdysample.export.report import inference, normalisation


def test_a_preprocessor_outside_of_the_model_is_told_as_it_is_trained_with(tmp_path):
    """mmengine puts it into a model that has none."""
    (tmp_path / 'a.py').write_text("""default_scope = 'mmseg'
data_preprocessor = dict(type='SegDataPreProcessor', mean=[1.0, 2.0, 3.0], std=[4.0, 5.0, 6.0], bgr_to_rgb=True)
model = dict(type='EncoderDecoder')
""")
    assert normalisation(load_config(str(tmp_path / 'a.py'))).endswith('mean [1.0, 2.0, 3.0], std [4.0, 5.0, 6.0]')
    (tmp_path / 'b.py').write_text("_base_ = './a.py'\nmodel = dict(data_preprocessor=dict(type='SegDataPreProcessor'))\n")
    assert normalisation(load_config(str(tmp_path / 'b.py'))).endswith('not normalised')


@pytest.mark.parametrize(
    ('config', 'words'),
    [
        ('configs/depth_swin_t_dysample.py', ["mode='slide_flip'"]),
        ('configs/segformer_b1_dysample.py', []),
        ('configs/faster_rcnn_dysample.py', []),
    ],
)
def test_another_way_of_testing_is_told(config, words):
    assert [word in line for line, word in zip(inference(load_config(config)), words, strict=True)] == [True] * len(words)


def test_sizes_are_told_of_each_runtime_where_they_differ():
    assert _accepted({'one': 'any', 'two': 'any'}) == 'any'
    assert _accepted({'one': 'any', 'two': 'multiples of 32'}) == 'in one: any; in two: multiples of 32'
