"""Packaging. Everything is pure Python; nothing here imports torch."""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
FOR_MIM = ('configs', 'tools', 'model-index.yml')

version: dict = {}
exec((ROOT / 'mmdysample/version.py').read_text(), version)


class BuildWithMim(build_py):
    """Put what MIM looks for under ``mmdysample/.mim``: as copies in a wheel, as links in an editable install.

    The function that OpenMMLab's packages copy from each other looks for ``develop`` among the arguments, which pip no longer says.
    """

    def run(self) -> None:
        super().run()
        mim = ROOT / 'mmdysample/.mim' if self.editable_mode else Path(self.build_lib) / 'mmdysample/.mim'
        mim.mkdir(parents=True, exist_ok=True)
        for name in FOR_MIM:
            target = mim / name
            if target.is_symlink() or target.is_file():
                target.unlink()
            shutil.rmtree(target, ignore_errors=True)
            if self.editable_mode:
                try:
                    target.symlink_to(Path('../..') / name)
                    continue
                except OSError:  # no links on this file system
                    pass
            if (ROOT / name).is_file():
                shutil.copy(ROOT / name, target)
            else:
                shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns('__pycache__'))


# The two stacks own the same package folders (mmcv, mmdet, ...), so neither is forced on the user: choose one extra.
# ftfy and regex: mmsegmentation 1.2.2 imports them without asking for them.
STACKS = {
    'openmmlab': ['mmengine==0.10.7', 'mmcv==2.1.0', 'mmdet==3.3.0', 'mmsegmentation==1.2.2', 'ftfy', 'regex'],
    'onedl': [
        'onedl-mmengine==0.10.12',
        'onedl-mmcv==2.3.6',
        'onedl-mmdetection==3.5.1',
        'onedl-mmsegmentation==1.4.2',
        'ftfy',
        'regex',
    ],
}

setup(
    name='mmdysample',
    version=version['__version__'],
    description='DySample and its rivals as a config value in mmdetection and mmsegmentation',
    long_description=(ROOT / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    packages=find_packages(include=['mmdysample', 'mmdysample.*']),
    package_data={'mmdysample': ['py.typed'], 'mmdysample.paper': ['*.yaml']},
    python_requires='>=3.10',
    install_requires=['torch>=2.4', 'adjustText', 'matplotlib', 'numpy', 'packaging', 'prettytable', 'pycocotools', 'pyyaml', 'rich'],
    extras_require={
        **STACKS,
        # Models from outside, for tests; Ultralytics comes beside them (Makefile). mmcv-lite has all that upsamplers need.
        'foreign': [
            'mmengine==0.10.7',
            'mmcv-lite==2.1.0',
            'transformers==5.23.0',
            'scipy',
            'onnx',
            'onnxruntime',
            'onnxscript',
            'pytest',
            'pytest-timeout',
        ],
        # triton: the kernels by its interpreter where there is no GPU; PyTorch's CUDA builds bring the one that they want.
        'dev': [
            'mypy',
            'onnx',
            'onnxruntime',
            'onnxscript',
            'pytest',
            'pytest-timeout',
            'pytest-xdist',
            'ruff',
            'triton; platform_system == "Linux"',
        ],
    },
    cmdclass={'build_py': BuildWithMim},
)
