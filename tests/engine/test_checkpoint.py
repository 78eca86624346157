import argparse
import io
import os
import pickle
import re
import zipfile

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import load_checkpoint

from mmdysample.engine.checkpoint import check_checkpoint, latest_complete, secure_loading
from mmdysample.engine.errors import one_line


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
        'meta': {'epoch': 1, 'iter': 10, 'cfg': 'model = dict()', 'dataset_meta': {'classes': ('circle',)}},
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


def zipped(**files):
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w') as archive:
        for name, content in files.items():
            archive.writestr(name.replace('_', '.'), content)
    return file.getvalue()


def scripted():
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), file)
    return file.getvalue()


@pytest.mark.parametrize(
    ('data', 'kind'),
    [
        (b'', 'an empty file'),
        (bytes(2000), 'filled with zeros: the download or the copy did not finish'),
        (b'hello', 'a text file'),
        ('ein Stück Text'.encode(), 'a text file'),
        (b'<!DOCTYPE html><title>404</title>', 'a web page: the download went wrong'),
        (b'version https://git-lfs.github.com/spec/v1\noid sha256:0\n', 'a Git LFS pointer and not the file itself: run git lfs pull'),
        (b'\x89PNG\r\n', 'an image'),
        (b'\x89HDF\r\n\x1a\n', 'an HDF5 file'),
        (b'\x1f\x8b\x08', 'a gzip archive: unpack it'),
        (b'\x18\0\0\0\0\0\0\0{"w": {"dtype": "F32"}}', r'a safetensors file, .* run python -c "import torch, safetensors'),
        (b'\x08\x07\x12\x07pytorch\x1a\x05', 'an ONNX model'),
        (pickle.dumps({'model': {'w': np.ones(2)}, '__author__': 'x'}), "a pickle that torch.save has not written, such as Detectron2's"),
        (zipped(a_npy='x', b_npy='y'), 'an archive of numpy arrays'),
        (zipped(epoch1_pth='x'), 'a zip archive that holds epoch1.pth: unpack it'),
        (scripted(), 'a TorchScript program'),
        (bytes(range(200, 256)) * 9, 'truncated, or another kind of file'),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path, data, kind):
    path = tmp_path / 'epoch_1.pth'
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f'is not a complete checkpoint: it is {kind}') as error:
        check_checkpoint(path)
    assert '\n' not in str(error.value)


def test_a_folder_is_refused(tmp_path):
    saved(tmp_path / 'pytorch_model.bin', {'weight': torch.zeros(3)})
    with pytest.raises(ValueError, match='there is no checkpoint .*; it is a folder, which holds pytorch_model.bin'):
        check_checkpoint(tmp_path)


def old(path, value):
    torch.save(value, path, _use_new_zipfile_serialization=False)
    return path


def test_the_format_of_older_torch(tmp_path):
    """It is told from a broken file."""
    check_checkpoint(old(tmp_path / 'clean.pth', content()), to_resume=True)
    with pytest.raises(ValueError, match=r'holds more than data: argparse\.Namespace\. .* add --trust-checkpoint$') as error:
        check_checkpoint(old(tmp_path / 'args.pth', content(args=argparse.Namespace(lr=1))))
    assert 'weights_only' not in str(error.value)
    data = (tmp_path / 'clean.pth').read_bytes()
    for share in (0.1, 0.5, 0.99):
        (tmp_path / 'cut.pth').write_bytes(data[: int(share * len(data))])
        with pytest.raises(ValueError, match='is not a complete checkpoint: it is truncated'):
            check_checkpoint(tmp_path / 'cut.pth')


@pytest.mark.parametrize('write', [saved, old])
def test_a_whole_model(tmp_path, write):
    path = write(tmp_path / 'model.pth', torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4)))
    with pytest.raises(
        ValueError, match='holds more than data: torch.nn.modules.*; it seems to be a whole model: a file of its state_dict'
    ):
        check_checkpoint(path)
    secure_loading(trust=True)
    with pytest.raises(ValueError, match='holds a whole Sequential, not its weights: save its state_dict'):
        check_checkpoint(path)


def test_torchs_own_message_is_not_passed_on(tmp_path):
    """A file that mmengine loads, after a download, is not checked before: its error names our option in place of torch's advice."""
    for path in (saved(tmp_path / 'a.pth', content(args=argparse.Namespace())), old(tmp_path / 'b.pth', argparse.Namespace())):
        with pytest.raises(pickle.UnpicklingError, match='weights_only') as error:
            load_checkpoint(torch.nn.Linear(1, 1), str(path))
        for text in (str(error.value), f'Caught UnpicklingError in DataLoader worker process 0.\nOriginal Traceback:\n{error.value}'):
            told = one_line(RuntimeError(text))
            assert 'holds more than data: argparse.Namespace.' in told
            assert told.endswith('add --trust-checkpoint')
            assert 'weights_only' not in told


@pytest.mark.parametrize(
    ('value', 'told'),
    [
        (torch.zeros(3), ': it holds a Tensor'),
        ({'state_dict': {'a': 1}}, '$'),
        ([torch.zeros(1)], ': it holds a list'),
        ({}, '$'),
        (torch.optim.SGD([torch.zeros(1)], 1.0).state_dict(), ': it holds the state of an optimizer'),
        ({'model': {'w': torch.zeros(1)}, 'epoch': 3}, r""": its weights are under 'model', .*: python -c "import torch; .*\['model'\]"""),
    ],
)
def test_something_else_in_the_right_format_is_refused(tmp_path, value, told):
    with pytest.raises(ValueError, match=f'holds no state_dict of tensors, so it is not a checkpoint of a model{told}'):
        check_checkpoint(saved(tmp_path / 'epoch_1.pth', value))


def test_weights_alone_can_be_tested_but_not_resumed(tmp_path):
    path = saved(tmp_path / 'weights.pth', {'weight': torch.zeros(3)})
    check_checkpoint(path)
    with pytest.raises(ValueError, match='holds only weights, .* load_from='):
        check_checkpoint(path, to_resume=True)


@pytest.mark.parametrize(
    ('change', 'lacking'),
    [
        (lambda file: file.pop('message_hub'), 'message_hub'),  # mmcv 1
        (lambda file: file['meta'].pop('iter'), r'meta\.iter'),
        (lambda file: file.pop('meta'), r'meta\.epoch, meta\.iter'),
        (lambda file: file.update(meta=None), r'meta\.epoch, meta\.iter'),
        (lambda file: file.update(meta=5, message_hub={}), r'meta\.epoch, meta\.iter'),
    ],
)
def test_what_resuming_needs(tmp_path, change, lacking):
    file = content()
    change(file)
    path = saved(tmp_path / 'epoch_1.pth', file)
    check_checkpoint(path)
    with pytest.raises(ValueError, match=f"lacks {lacking}, which mmengine's checkpoints hold, so .* load_from="):
        check_checkpoint(path, to_resume=True)


def test_a_config_in_a_checkpoint_is_not_run(tmp_path):
    """mmengine 0.10.7 runs meta['config'] as Python when it resumes."""
    path = saved(tmp_path / 'epoch_1.pth', content(meta={'config': "open('trap', 'w')"}))
    check_checkpoint(path)
    with pytest.raises(ValueError, match='holds a config that resuming would execute'):
        check_checkpoint(path, to_resume=True)
    with pytest.raises(ValueError, match='training resumes from a file, got the URL'):
        check_checkpoint('https://example.org/epoch_1.pth', to_resume=True)


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
