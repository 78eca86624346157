import pytest

from mmdysample.engine.config import load_config, unknown_keys

CONFIG = 'configs/faster_rcnn_dysample.py'


def test_options_change_it():
    config = load_config(CONFIG, {'model.neck.upsample_cfg.type': 'DySample+', 'load_from': 'x.pth'})
    assert config.model.neck.upsample_cfg.type == 'DySample+'
    assert config.load_from == 'x.pth'


@pytest.mark.parametrize(
    ('path', 'message'),
    [
        ('configs/faster_rcnn_dysampel.py', 'there is no config .*; did you mean configs/faster_rcnn_dysample.py'),
        ('configs', 'there is no config configs'),
        ('nothing/at/all.py', 'there is no config nothing/at/all.py$'),
    ],
)
def test_a_missing_file(path, message):
    with pytest.raises(ValueError, match=message):
        load_config(path)


@pytest.mark.parametrize('content', ['model = dict(', '_base_ = "./nowhere.py"', 'x = 1 / 0'])
def test_a_broken_file(tmp_path, content):
    path = tmp_path / 'broken.py'
    path.write_text(content)
    with pytest.raises(ValueError, match=r'the config .*broken\.py cannot be read: \w+') as error:
        load_config(str(path))
    assert '\n' not in str(error.value)


def test_a_misspelt_option():
    with pytest.raises(ValueError, match="has a key 'modle'; did you mean model"):
        load_config(CONFIG, {'modle.neck.type': 'FPN'})
    with pytest.raises(ValueError, match='--cfg-options do not fit'):
        load_config(CONFIG, {'param_scheduler.7.type': 'X'})


def test_unknown_keys_are_found():
    config = load_config(CONFIG)
    assert unknown_keys(config) == set()
    config.data = dict(samples_per_gpu=4)  # a leftover of mmdet 2, as in the configs that mmdet 3 users copy
    assert unknown_keys(config) == {'data'}
