import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest
from conftest import ROOT

import mmdysample

pytestmark = pytest.mark.slow

WANTED = {
    'mmdysample/functional/dysample.py',
    'mmdysample/paper/faster_rcnn.yaml',
    'mmdysample/.mim/model-index.yml',
    'mmdysample/.mim/configs/metafiles/faster_rcnn.yml',
    'mmdysample/.mim/configs/faster_rcnn_dysample.py',
    'mmdysample/.mim/configs/_base_/models/faster_rcnn_r50.py',
    'mmdysample/.mim/configs/shapes/segformer_b1_dysample_shapes.py',
    'mmdysample/.mim/tools/train.py',
    'mmdysample/.mim/tools/dist_train.sh',
}


def call(*command, cwd, **environment):
    done = subprocess.run(command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    """A wheel made from a source distribution, so that both are complete."""
    folder = tmp_path_factory.mktemp('dist')
    clone = folder / 'clone'
    listed = call('git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard', cwd=ROOT)
    for name in filter(lambda name: (ROOT / name).is_file(), listed.split('\0')):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, clone / name)
    call(sys.executable, '-c', f'from setuptools import build_meta; build_meta.build_sdist({str(folder)!r})', cwd=clone)
    (sdist,) = folder.glob('*.tar.gz')
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter='data')
    unpacked = folder / sdist.name.removesuffix('.tar.gz')
    call(sys.executable, '-c', f'from setuptools import build_meta; build_meta.build_wheel({str(folder)!r})', cwd=unpacked)
    (built,) = folder.glob('*.whl')
    return built


def test_a_wheel_carries_configs_and_tools_for_mim(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert names >= WANTED
    assert not any('__pycache__' in name or name.startswith('tests') for name in names)


def test_the_tools_of_a_wheel_work_from_where_it_lies(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    script = tmp_path / 'mmdysample/.mim/tools/train.py'
    assert 'usage: train.py' in call(sys.executable, str(script), '-h', cwd=tmp_path, PYTHONPATH=str(tmp_path))


def test_no_framework_is_forced_on_the_user(wheel):
    (metadata,) = (name for name in zipfile.ZipFile(wheel).namelist() if name.endswith('METADATA'))
    text = zipfile.ZipFile(wheel).read(metadata).decode()
    required = [line for line in text.splitlines() if line.startswith('Requires-Dist:') and 'extra ==' not in line]
    assert not any(re.search('mmcv|mmengine|mmdet|mmseg', line) for line in required)
    assert {'openmmlab', 'onedl'} <= set(re.findall(r'Provides-Extra: (\w+)', text))


def test_an_editable_install_carries_them_as_links():
    mim = ROOT / 'mmdysample/.mim'
    assert mim.parent.samefile(next(iter(mmdysample.__path__)))
    assert (mim / 'configs').resolve() == ROOT / 'configs'
    assert (mim / 'tools/train.py').is_file()
    assert (mim / 'model-index.yml').resolve() == ROOT / 'model-index.yml'
