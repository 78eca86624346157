import sys

import pytest

from mmdysample.frameworks import require


def test_what_is_here_passes():
    require('mmengine', 'the test')
    require('mmcv', 'the test')


def test_what_is_missing_is_named_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, 'mmseg', None)
    with pytest.raises(ImportError, match=r'the test needs mmseg, which is not installed\. Run: pip install mmsegmentation==1\.2\.2'):
        require('mmseg', 'the test')


def test_what_is_too_old_is_named_with_the_command(monkeypatch):
    import mmcv

    monkeypatch.setattr(mmcv, '__version__', '1.7.2')
    with pytest.raises(ImportError, match=r'needs mmcv >= 2\.0\.1, got 1\.7\.2\. Run: pip install mmcv==2\.1\.0'):
        require('mmcv', 'the test')


def test_a_framework_that_refuses_its_neighbour(monkeypatch, tmp_path):
    """mmdet 3.3.0 asserts that mmcv is older than 2.2.0."""
    (tmp_path / 'mmdet').mkdir()
    (tmp_path / 'mmdet/__init__.py').write_text("assert False, 'MMCV==2.2.0 is used but incompatible'")
    for name in [name for name in sys.modules if name.split('.')[0] == 'mmdet']:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ImportError, match=r'the test needs mmdet, which refuses to be imported: MMCV==2\.2\.0 is used'):
        require('mmdet', 'the test')
