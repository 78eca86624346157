import sys
from importlib.metadata import PackageNotFoundError

import pytest

from mmdysample.frameworks import explain_missing, install_command, require


def test_what_is_here_passes():
    require('mmengine', 'the test')
    require('mmcv', 'the test')


@pytest.mark.parametrize(('installed', 'package'), [(False, 'mmcv==2.1.0'), (True, 'onedl-mmcv==2.3.6')])
def test_the_command_is_of_the_distribution_that_is_here(monkeypatch, installed, package):
    def distribution(name):
        if not installed:
            raise PackageNotFoundError(name)

    monkeypatch.setattr('mmdysample.frameworks.distribution', distribution)
    assert install_command('mmcv') == f'pip install --no-build-isolation {package}'


def test_what_is_missing_is_named_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, 'mmseg', None)
    with pytest.raises(
        ImportError,
        match=f'the test needs mmseg, which is not installed. Run: {install_command("mmseg")}',
    ):
        require('mmseg', 'the test')


def test_what_is_too_old_is_named_with_the_command(monkeypatch):
    import mmcv

    monkeypatch.setattr(mmcv, '__version__', '1.7.2')
    with pytest.raises(ImportError, match=f'needs mmcv >= 2.0.1, got 1.7.2. Run: {install_command("mmcv")}'):
        require('mmcv', 'the test')


def test_a_framework_that_refuses_its_neighbour(monkeypatch, tmp_path):
    """mmdet 3.3.0 asserts that mmcv is older than 2.2.0."""
    (tmp_path / 'mmdet').mkdir()
    (tmp_path / 'mmdet/__init__.py').write_text("assert False, 'MMCV==2.2.0 is used but incompatible'")
    for name in [name for name in sys.modules if name.split('.')[0] == 'mmdet']:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ImportError, match='which refuses to be imported: MMCV==2.2.0 is used but incompatible Run: pip install'):
        require('mmdet', 'the test')


def test_what_mmsegmentation_forgot_to_ask_for(monkeypatch):
    pytest.importorskip('mmseg')
    monkeypatch.setitem(sys.modules, 'ftfy', None)
    with pytest.raises(ImportError, match=r'which imports ftfy without declaring it\. Run: pip install ftfy'):
        require('mmseg', 'the test')


@pytest.mark.parametrize(
    ('name', 'sentence'),
    [
        ('mmengine.config', 'mmengine is not installed. Run: pip install mmengine==0.10.7'),
        ('matplotlib', "matplotlib is not installed. Run: pip install 'mmdysample[tools]'"),
        ('onnx', "onnx is not installed. Run: pip install 'mmdysample[export]'"),
        ('mmcv._ext', 'the installed mmcv has no compiled operators (No module named), Run: '),
        ('somebody_s', 'No module named'),
    ],
)
def test_a_module_that_is_missing_is_named_with_the_command(monkeypatch, name, sentence):
    def distribution(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr('mmdysample.frameworks.distribution', distribution)
    said = explain_missing(ModuleNotFoundError('No module named', name=name))
    assert said.startswith(sentence.replace('),', ').'))
