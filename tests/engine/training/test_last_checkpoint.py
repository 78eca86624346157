import pytest

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


def test_nothing_was_saved(tmp_path):
    assert last_checkpoint(tmp_path) is None
    assert not list(tmp_path.iterdir())
