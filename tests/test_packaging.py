import os
import re
import runpy
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import distribution, requires
from pathlib import Path

import pytest
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.version import Version

import mmdysample
from mmdysample.frameworks import MINIMA

pytestmark = pytest.mark.slow

WANTED = {
    'mmdysample/functional/dysample.py',
    'mmdysample/py.typed',
    'mmdysample/paper/faster_rcnn.yaml',
    'mmdysample/ultralytics/models/yolo11-dysample.yaml',
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
def sdist(tmp_path_factory):
    """A source distribution, unpacked."""
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
    return folder / sdist.name.removesuffix('.tar.gz')


@pytest.fixture(scope='module')
def wheel(sdist, tmp_path_factory):
    """A wheel made from the source distribution, so that both are complete."""
    folder = tmp_path_factory.mktemp('wheel')
    call(sys.executable, '-c', f'from setuptools import build_meta; build_meta.build_wheel({str(folder)!r})', cwd=sdist)
    (built,) = folder.glob('*.whl')
    return built


def test_a_source_distribution_carries_what_builds_tests_and_documents_it(sdist):
    listed = call('git', 'ls-files', 'tests', 'docs', 'configs', 'tools', 'requirements', 'Makefile', 'mkdocs.yml', '*.md', cwd=ROOT).split(
        '\n'
    )
    present = [name for name in listed if (ROOT / name).is_file()]
    assert len(present) > 150
    assert [name for name in present if not (sdist / name).is_file()] == []


def test_the_tests_of_a_source_distribution_start(sdist):
    environment = {'PYTHONPATH': str(sdist), 'PYTEST_ADDOPTS': '-p no:cacheprovider'}
    out = call(sys.executable, '-m', 'pytest', '-q', 'tests/upsamplers/test_indexnet.py', cwd=sdist, **environment)
    assert re.search(r'\d+ passed', out)


def _closure(name, found):
    """Names of a distribution and of all that it requires."""
    if name not in found:
        found.add(name)
        for requirement in map(Requirement, requires(name) or ()):
            if requirement.marker is None or requirement.marker.evaluate({'extra': ''}):
                _closure(requirement.name, found)
    return found


@pytest.fixture(scope='module')
def torch_alone(wheel, tmp_path_factory):
    """The Python of an environment into which the wheel was installed, with torch and what torch requires, and nothing else."""
    folder = tmp_path_factory.mktemp('environment')
    call(sys.executable, '-m', 'venv', '--without-pip', str(folder), cwd=folder)
    (site,) = folder.glob('lib/python*/site-packages')
    for name in _closure('torch', _closure('numpy', _closure('packaging', set()))):
        for top in {file.parts[0] for file in distribution(name).files if file.parts[0] not in ('..', '__pycache__')}:
            (site / top).symlink_to(Path(distribution(name).locate_file(top)))
    python = str(folder / 'bin/python')
    call(sys.executable, '-m', 'pip', '--python', python, 'install', '--quiet', '--no-index', str(wheel), cwd=folder)
    return python


USE = """
import io, torch
from torch import nn
from importlib.util import find_spec
assert not any(map(find_spec, ('mmengine', 'mmcv', 'mmdet', 'mmseg', 'matplotlib', 'rich', 'prettytable', 'yaml', 'cv2')))
from mmdysample import DySample, build_upsampler, list_upsamplers, replace_upsample

x = torch.randn(2, 64, 5, 7, requires_grad=True)
for name in list_upsamplers():
    module = build_upsampler(name, 64)
    guide = [torch.randn(2, 64, 10, 14)] if getattr(module, 'guided', False) else []
    y = module(x, *guide)
    assert y.shape == (2, 64, 10, 14), name
    y.sum().backward()

class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down1, self.down2, self.last = nn.Conv2d(3, 16, 3, 2, 1), nn.Conv2d(16, 16, 3, 2, 1), nn.Conv2d(16, 2, 1)
    def forward(self, x):
        a = self.down1(x)
        b = nn.functional.interpolate(self.down2(a), scale_factor=2.0, mode='bilinear')
        return self.last(a + b[:, :, : a.shape[2], : a.shape[3]])

model = UNet()
print(replace_upsample(model, 'DySample', torch.randn(1, 3, 32, 48)))
model(torch.randn(2, 3, 32, 64)).mean().backward()
print(len(list_upsamplers()), 'upsamplers')
"""


def test_it_works_beside_torch_alone(torch_alone, tmp_path):
    out = call(torch_alone, '-W', 'error', '-c', USE, cwd=tmp_path)
    assert re.search(r'DySample x2 .*\| [\d,]+ ', out)
    assert f'{len(mmdysample.list_upsamplers())} upsamplers' in out


@pytest.mark.parametrize(
    ('tool', 'message'),
    [
        ('train', 'error: mmengine is not installed. Run: pip install mmengine'),
        ('metafiles', "error: yaml is not installed. Run: pip install 'mmdysample[tools]'"),
    ],
)
def test_the_command_lines_name_the_extra_that_they_need(torch_alone, tool, message):
    done = subprocess.run([torch_alone, f'tools/{tool}.py', '-h'], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(message)
    assert done.stderr.count('\n') == 1


@pytest.mark.parametrize('repository', ['', 'https://example.org/mmdysample'])
def test_the_readme_of_a_package_index_has_no_dead_links(repository, monkeypatch):
    monkeypatch.setattr('sys.argv', ['setup.py', '--name'])
    names = runpy.run_path(str(ROOT / 'setup.py'))
    text = names['readme_for_index']((ROOT / 'README.md').read_text(), repository)
    targets = re.findall(r'\]\(([^)]+)\)', text)
    assert len(targets) >= 2
    assert [target for target in targets if not target.startswith(('https://', '#'))] == []
    assert ('![' in text) == bool(repository)


def test_a_wheel_carries_configs_and_tools_for_mim(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert names >= WANTED
    assert not any('__pycache__' in name or name.startswith('tests') for name in names)


def test_the_tools_of_a_wheel_work_from_where_it_lies(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    script = tmp_path / 'mmdysample/.mim/tools/train.py'
    assert 'usage: train.py' in call(sys.executable, str(script), '-h', cwd=tmp_path, PYTHONPATH=str(tmp_path))


def test_the_oldest_torch_that_pip_accepts_is_the_one_that_is_tested(wheel):
    """The floor of setup.py, that of the messages, and what ``make test-oldest`` installs."""
    (metadata,) = (name for name in zipfile.ZipFile(wheel).namelist() if name.endswith('METADATA'))
    needs = re.findall(r'^Requires-Dist: (.+)$', zipfile.ZipFile(wheel).read(metadata).decode(), re.MULTILINE)
    (floor,) = next(r for r in map(Requirement, needs) if r.name == 'torch').specifier
    (tested,) = Requirement(re.search(r'^torch.*', (ROOT / 'requirements/oldest.txt').read_text(), re.MULTILINE)[0]).specifier
    assert (floor.operator, tested.operator) == ('>=', '==')
    assert Version(floor.version) == Version(tested.version) == Version(MINIMA['torch'])


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
