import argparse
import importlib.util
from contextlib import nullcontext

import pytest
from conftest import ROOT
from mmengine.config import Config

from mmdysample.engine.training.last_checkpoint import last_checkpoint

CONTENTS = [b'', b'\xff\xfe\x00', b'/moved/since/iter_2.pth', b'\0' * 30, b'\n', b'/tmp\0/iter_2.pth', b'.', b'iter_2.pth' * 1000]


@pytest.mark.parametrize('content', CONTENTS)
def test_a_damaged_file_is_mended(tmp_path, capsys, content):
    for name in ('iter_2.pth', 'iter_10.pth', 'best_mIoU_iter_2.pth'):
        (tmp_path / name).touch()
    (tmp_path / 'last_checkpoint').write_bytes(content)
    assert last_checkpoint(tmp_path) == tmp_path / 'iter_10.pth'
    assert capsys.readouterr().out == f'{tmp_path}/last_checkpoint named no checkpoint that is there; it now names iter_10.pth\n'
    assert last_checkpoint(tmp_path) == tmp_path / 'iter_10.pth'
    assert capsys.readouterr().out == ''


def test_a_whole_one_is_believed(tmp_path):
    """Also where it names another folder, as with the hook's ``out_dir``."""
    saved = tmp_path / 'elsewhere.pth'
    saved.touch()
    (tmp_path / 'iter_2.pth').touch()
    (tmp_path / 'last_checkpoint').write_text(str(saved))
    assert last_checkpoint(tmp_path) == saved


def test_an_address_is_left_as_it_is(tmp_path, capsys):
    """mmengine's hook writes one for ``out_dir='s3://bucket'``."""
    (tmp_path / 'iter_2.pth').touch()
    (tmp_path / 'last_checkpoint').write_text('s3://bucket/run/iter_4.pth')
    assert last_checkpoint(tmp_path) == 's3://bucket/run/iter_4.pth'
    assert (tmp_path / 'last_checkpoint').read_text() == 's3://bucket/run/iter_4.pth'
    assert capsys.readouterr().out == ''


def test_nothing_was_saved(tmp_path):
    assert last_checkpoint(tmp_path) is None
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_mended_ends_in_one_line(tmp_path, monkeypatch, capsys):
    """After a training that was complete already, in a folder whose ``last_checkpoint`` is a folder too."""
    (tmp_path / 'iter_2.pth').touch()
    (tmp_path / 'last_checkpoint').mkdir()
    spec = importlib.util.spec_from_file_location('train_tool', ROOT / 'tools/train.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    nothing = argparse.Namespace(rank=0, unless_refused=nullcontext, register_hook=lambda hook: None)
    monkeypatch.setattr('sys.argv', ['train.py', 'config.py'])
    monkeypatch.setattr(tool, 'read_config', lambda *_: Config({'work_dir': str(tmp_path)}))
    monkeypatch.setattr(tool, 'build_runner', lambda *_, **__: nothing)
    for name in ('set_resume', 'check_resume', 'check_unchanged', 'why_not_repeatable', 'train'):
        monkeypatch.setattr(tool, name, lambda *_: None)
    with pytest.raises(SystemExit) as ended:
        tool.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith('error: [Errno 21] Is a directory')
