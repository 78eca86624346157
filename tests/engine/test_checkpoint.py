import os
import pickle
import re
import zipfile

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from mmdysample import DySamplePlus
from mmdysample.engine.checkpoint import check_checkpoint, check_fit, latest_complete, secure_loading


@pytest.fixture(autouse=True)
def _secure(monkeypatch):
    for name in ('TORCH_FORCE_WEIGHTS_ONLY_LOAD', 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'):
        monkeypatch.delenv(name, raising=False)
    secure_loading()


def content(**extra):
    """What mmengine writes: weights, optimizer, schedules and the statistics of the message hub."""
    history = HistoryBuffer()
    history.update(0.5)
    return {
        'state_dict': {'weight': torch.randn(3)},
        'optimizer': {'state': {}, 'param_groups': []},
        'meta': {'epoch': 1, 'cfg': 'model = dict()', 'dataset_meta': {'classes': ('circle',)}},
        'message_hub': {
            'log_scalars': {'train/loss': history},
            'runtime_info': {'best_score': np.float64(0.5), 'mIoU': np.float32(0.5), 'per_class': np.ones(3, np.float32)},
        },
        **extra,
    }


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def saved(path, value):
    torch.save(value, path)
    return path


def test_an_old_torch_is_named_with_the_command(monkeypatch):
    monkeypatch.setattr(torch, '__version__', '2.5.1+cu121')
    with pytest.raises(ImportError, match=r"safely needs torch >= 2\.6\.0, got 2\.5\.1\+cu121\. Run: pip install 'torch>=2\.6\.0'$"):
        secure_loading()


def test_mmengines_checkpoints_load(tmp_path):
    path = saved(tmp_path / 'epoch_1.pth', content())
    check_checkpoint(path, to_resume=True)
    history = torch.load(path)['message_hub']['log_scalars']['train/loss']
    assert history.mean() == 0.5


@pytest.mark.parametrize('weights_only', [None, False])
def test_nothing_of_a_foreign_file_is_executed(tmp_path, weights_only):
    """Not even by a caller who asks for it, as mmengine's fork does."""
    trap = tmp_path / 'trap'
    path = saved(tmp_path / 'epoch_1.pth', content(hook=Malicious(trap)))
    with pytest.raises(ValueError, match=r'holds more than data: (posix|os)\.mkdir\..* add --trust-checkpoint'):
        check_checkpoint(path)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=weights_only)
    assert not trap.exists()
    secure_loading(trust=True)
    check_checkpoint(path)
    assert trap.exists()


def test_getattr_is_no_way_around(tmp_path):
    """The stand-in answers for HistoryBuffer alone."""

    class Reach:
        def __reduce__(self):
            return getattr, (np.ndarray, 'tofile')

    path = saved(tmp_path / 'epoch_1.pth', content(hook=Reach()))
    with pytest.raises(ValueError, match='holds more than data'):
        check_checkpoint(path)


def test_an_array_of_objects_is_refused(tmp_path):
    path = saved(tmp_path / 'epoch_1.pth', content(array=np.array([None], dtype=object)))
    with pytest.raises(ValueError, match='holds more than data: .*ObjectDType'):
        check_checkpoint(path)


@pytest.mark.parametrize('share', [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path, share):
    path = saved(tmp_path / 'epoch_1.pth', content())
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ValueError, match='is not a complete checkpoint') as error:
        check_checkpoint(path)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('data', [b'\x89PNG\r\n', b'hello', pickle.dumps([1, 2])])
def test_a_file_of_another_kind_is_refused(tmp_path, data):
    path = tmp_path / 'epoch_1.pth'
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r'is not a (complete )?checkpoint'):
        check_checkpoint(path)


@pytest.mark.parametrize('value', [torch.zeros(3), {'state_dict': {'a': 1}}, [torch.zeros(1)], {}])
def test_something_else_in_the_right_format_is_refused(tmp_path, value):
    with pytest.raises(ValueError, match='holds no state_dict of tensors'):
        check_checkpoint(saved(tmp_path / 'epoch_1.pth', value))


def test_weights_alone_can_be_tested_but_not_resumed(tmp_path):
    path = saved(tmp_path / 'weights.pth', {'weight': torch.zeros(3)})
    check_checkpoint(path)
    with pytest.raises(ValueError, match='holds only weights, .* load_from='):
        check_checkpoint(path, to_resume=True)


def test_a_config_in_a_checkpoint_is_not_run(tmp_path):
    """mmengine 0.10.7 runs meta['config'] as Python when it resumes."""
    path = saved(tmp_path / 'epoch_1.pth', content(meta={'config': "open('trap', 'w')"}))
    check_checkpoint(path)
    with pytest.raises(ValueError, match='holds a config that resuming would execute'):
        check_checkpoint(path, to_resume=True)
    with pytest.raises(ValueError, match='training resumes from a file, got the URL'):
        check_checkpoint('https://example.org/epoch_1.pth', to_resume=True)


def test_weights_of_another_model(tmp_path):
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.Conv2d(4, 4, 1))
    state = model.state_dict()
    assert check_fit(str(saved(tmp_path / 'own.pth', {'state_dict': state})), model, to_resume=True) is None
    assert check_fit(str(saved(tmp_path / 'wrapped.pth', {f'module.{key}': value for key, value in state.items()})), model) is None
    partial = {key: value for key, value in state.items() if key != '1.bias'}
    path = str(saved(tmp_path / 'partial.pth', partial))
    assert 'lacks 1 of the 4 weights, which keep their random values: 1.bias; use the config that was saved' in check_fit(path, model)
    more = str(saved(tmp_path / 'more.pth', {**state, 'other.weight': torch.zeros(1)}))
    assert '1 of its weights are not in the model: other.weight; use the config' in check_fit(more, model)
    with pytest.raises(ValueError, match=r'belongs to another model \(they differ in 1\.bias\)'):
        check_fit(path, model, to_resume=True)
    with pytest.raises(ValueError, match=r'belongs to another model \(they differ in extra\)'):
        check_fit(str(saved(tmp_path / 'more.pth', {**state, 'extra': torch.zeros(1)})), model, to_resume=True)
    half = str(saved(tmp_path / 'half.pth', {key: state[key] for key in list(state)[:2]}))
    with pytest.raises(ValueError, match="is not a checkpoint of this model: it holds 2 of the model's 4 weights"):
        check_fit(half, model)
    foreign = {key: torch.zeros(7) for key in state}
    with pytest.raises(ValueError, match="is not a checkpoint of this model: it holds 0 of the model's 4 weights"):
        check_fit(str(saved(tmp_path / 'foreign.pth', foreign)), model)


def test_a_training_that_began_with_an_older_file_resumes(tmp_path):
    """Its checkpoints carry the bias of the scope that it was given, and that of a new model is zero."""
    state = DySamplePlus(16).state_dict()
    older = str(saved(tmp_path / 'epoch_1.pth', {**state, 'scope.bias': torch.ones(32)}))
    model = DySamplePlus(16)
    assert check_fit(older, model, to_resume=True) is None
    assert not model.scope_bias.any()  # the check leaves the model alone
    del state['init_pos']
    assert check_fit(str(saved(tmp_path / 'epoch_2.pth', state)), model, to_resume=True) is None


def test_a_missing_file_names_its_neighbours(tmp_path):
    saved(tmp_path / 'epoch_3.pth', content())
    with pytest.raises(ValueError, match=r'there is no checkpoint .*epoch_4\.pth; that folder holds epoch_3\.pth'):
        check_checkpoint(tmp_path / 'epoch_4.pth')


def test_the_latest_complete_one(tmp_path, capsys):
    for i in (1, 2, 3):
        os.utime(saved(tmp_path / f'epoch_{i}.pth', content()), (9 - i, 9 - i))  # as a copy may shuffle them
    newest = tmp_path / 'epoch_3.pth'
    newest.write_bytes(newest.read_bytes()[:100])
    assert latest_complete(tmp_path) == tmp_path / 'epoch_2.pth'
    assert 'skipped' in capsys.readouterr().out
    assert latest_complete(tmp_path / 'empty') is None


@pytest.mark.parametrize('module', ['numpy.core', 'numpy._core'])
def test_files_of_numpy_1_and_2_load_under_either(tmp_path, module):
    """numpy 2 renamed numpy.core to numpy._core, and pickles name their functions by it."""
    written, path = saved(tmp_path / 'written.pth', content()), tmp_path / 'epoch_1.pth'
    with zipfile.ZipFile(written) as source, zipfile.ZipFile(path, 'w') as target:
        for name in source.namelist():
            data = re.sub(rb'numpy\._?core\.multiarray', module.encode() + b'.multiarray', source.read(name))
            target.writestr(name, data)
    assert f'{module}.multiarray'.encode() in path.read_bytes()
    check_checkpoint(path, to_resume=True)
    assert torch.load(path)['message_hub']['log_scalars']['train/loss'].mean() == 0.5
