"""Packaging. Everything is pure Python; nothing here imports torch."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent

version: dict = {}
exec((ROOT / 'mmdysample/version.py').read_text(), version)

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
    packages=find_packages(include=['mmdysample', 'mmdysample.*']),
    python_requires='>=3.10',
    install_requires=['torch>=2.0'],
    extras_require={
        **STACKS,
        'dev': ['mypy', 'onnx', 'onnxruntime', 'onnxscript', 'pytest', 'pytest-timeout', 'ruff'],
    },
)
