import argparse
import collections
import datetime
import enum
import functools
import io
import os
import pathlib
import pickle
import re
import sys
import zipfile

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from mmdysample.engine.checkpoint import check_checkpoint, latest_complete, load_content, secure_loading
from mmdysample.engine.errors import one_line


@pytest.fixture(autouse=True)
def _secure(monkeypatch):
    for name in ('TORCH_FORCE_WEIGHTS_ONLY_LOAD', 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch, 'load', torch.load)
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
    with pytest.raises(ValueError, match='holds more than data'):
        torch.load(path, weights_only=weights_only)
    with path.open('rb') as file, pytest.raises(pickle.UnpicklingError):
        torch.load(file, weights_only=weights_only)
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
    with pytest.raises(ValueError, match=r'holds more than data: numpy\.\S*ObjectDType\. Loading it'):
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


FORMATS = [(zipped, protocol) for zipped in (True, False) for protocol in range(6)]


def nested(value):
    return content(hooks=[{'first': (1, value)}])


@pytest.mark.parametrize(('zipped', 'protocol'), FORMATS)
def test_code_is_named_in_every_format(tmp_path, zipped, protocol):
    """Nothing of it is executed."""
    trap, path = tmp_path / 'trap', tmp_path / 'epoch_1.pth'
    torch.save(nested(Malicious(trap)), path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r'epoch_1\.pth holds more than data: posix\.mkdir\. .* add --trust-checkpoint$') as error:
        check_checkpoint(path)
    assert '\n' not in str(error.value)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match='is not a complete checkpoint: it is truncated'):
        check_checkpoint(path)
    assert not trap.exists()


@pytest.mark.parametrize(('zipped', 'protocol'), FORMATS)
def test_data_in_every_format(tmp_path, zipped, protocol):
    """torch loads protocol 2 safely."""
    path = tmp_path / 'epoch_1.pth'
    torch.save(content(), path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    if protocol == 2:
        check_checkpoint(path, to_resume=True)
        return
    told = 'cannot load: save it again .* in protocol 2$' if protocol == 0 else 'does not load safely: save it again .* --trust-checkpoint$'
    with pytest.raises(ValueError, match=f'holds data in pickle protocol {protocol}, which torch {told}'):
        check_checkpoint(path)
    secure_loading(trust=True)
    if protocol:
        check_checkpoint(path, to_resume=True)


class Colour(enum.Enum):
    RED = 1


class Settings(dict):
    pass


class Evaluated:
    def __reduce__(self):
        return eval, ('1',)


@pytest.mark.parametrize(('zipped', 'protocol'), [(True, 2), (True, 4), (False, 2), (False, 5)])
@pytest.mark.parametrize(
    ('value', 'name'),
    [
        (functools.partial(print), 'functools.partial'),
        (Evaluated(), 'builtins.eval'),
        (content, r'\S*test_checkpoint.content'),
        (np.array([Colour.RED], dtype=object), r'\S*test_checkpoint.Colour'),
        (argparse.Namespace(lr=1), 'argparse.Namespace'),
        (Settings(lr=1), r'\S*test_checkpoint.Settings'),
        (pathlib.PurePosixPath('x'), r'pathlib\S*.PurePosixPath'),
        (datetime.date(2020, 1, 1), 'datetime.date'),
        (collections.defaultdict(int), 'builtins.int, collections.defaultdict'),
    ],
)
def test_whatever_is_no_data_is_named(tmp_path, value, name, zipped, protocol):
    path = tmp_path / 'epoch_1.pth'
    torch.save(nested(value), path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=rf'holds more than data: (builtins\.print, )?{name}\. .* add --trust-checkpoint$'):
        check_checkpoint(path)


@pytest.mark.parametrize('zipped', [True, False])
def test_what_is_data(tmp_path, zipped):
    values = [collections.OrderedDict(a=1), torch.Size([1]), torch.float16, torch.device('cpu'), {1, 2}, b'b', 2**70, np.bool_(True), 1j]
    path = tmp_path / 'epoch_1.pth'
    torch.save(nested(values), path, _use_new_zipfile_serialization=zipped)
    check_checkpoint(path, to_resume=True)
    assert torch.load(path)['hooks'] == [{'first': (1, values)}]


@pytest.mark.parametrize(
    ('code', 'name'),
    [
        (b'\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x93.', 'os.system'),
        (b'\x80\x04\x8c\x02os\x940h\x00\x8c\x06system\x93.', 'os.system'),
        (b'\x80\x04\x8c\x02osq\x050h\x05\x8c\x06system\x93.', 'os.system'),
        (b'\x80\x04\x8c\x02os2\x8c\x06system\x93.', r'\?.system'),
        (b'\x80\x04\x8c\x03o\ns\x8c\x06system\x93.', r"'o\\ns.system'"),
        (b'\x80\x02(ios\nsystem\n.', 'os.system'),
        (b'\x80\x02\x82\x07.', 'copyreg.extension 7'),
        (b'\x80\x02cos\x1b[31m\nsystem\n.', r"'os\\x1b\[31m.system'"),
    ],
)
def test_names_that_are_hidden(tmp_path, code, name):
    path = tmp_path / 'epoch_1.pth'
    path.write_bytes(zipped(**{'x/data_pkl': code, 'x/version': '3'}))
    with pytest.raises(ValueError, match=f'holds more than data: {name}. Loading it'):
        check_checkpoint(path)


def test_code_in_a_file_without_checksums(tmp_path):
    computed = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    torch.save(nested(argparse.Namespace()), tmp_path / 'epoch_1.pth', pickle_protocol=4)
    torch.serialization.set_crc32_options(computed)
    with pytest.raises(ValueError, match='holds more than data: argparse.Namespace. Loading it'):
        check_checkpoint(tmp_path / 'epoch_1.pth')


@pytest.mark.parametrize('write', [saved, old])
def test_code_that_is_not_installed(tmp_path, write, monkeypatch):
    path = write(tmp_path / 'epoch_1.pth', content(more=Settings()))
    monkeypatch.delattr(sys.modules[__name__], 'Settings')
    secure_loading(trust=True)
    with pytest.raises(ValueError, match="cannot be loaded: AttributeError: .*'Settings'"):
        check_checkpoint(path)


def test_torchs_own_message_is_not_passed_on():
    """What is loaded from no file of this machine is not checked before: its error names our option in place of torch's advice."""
    for options in ({}, dict(_use_new_zipfile_serialization=False)):
        file = io.BytesIO()
        torch.save(content(args=argparse.Namespace()), file, **options)
        file.seek(0)
        with pytest.raises(pickle.UnpicklingError, match='weights_only') as error:
            torch.load(file)
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


@pytest.mark.parametrize('compression', [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_archive_that_was_packed_again(tmp_path, compression):
    written, path = saved(tmp_path / 'written.pth', dict(a=torch.rand(5, dtype=torch.float64), b=torch.rand(5000))), tmp_path / 'w.pth'
    with zipfile.ZipFile(written) as source, zipfile.ZipFile(path, 'w', compression) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    check_checkpoint(path)
    for name, value in torch.load(written).items():
        assert load_content(str(path))[name].equal(value)


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
