"""Packaging. Everything is pure Python; nothing here imports torch."""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
FOR_MIM = ('configs', 'tools', 'model-index.yml')

version: dict = {}
exec((ROOT / 'mmdysample/version.py').read_text(encoding='utf-8'), version)


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


# https://.../ of the published source, for a README that is shown elsewhere. Without one, that README has no relative links or pictures.
REPOSITORY = ''


def readme_for_index(text: str, repository: str) -> str:
    """Return the README as a package index can show it: links and pictures with relative addresses would be dead there."""
    picture, link = r'!\[([^\]]*)\]\((?!https?:)([^)]+)\)', r'(?<!!)\[([^\]]*)\]\((?!https?:)([^)]+)\)'
    if repository:
        text = re.sub(picture, rf'![\1]({repository}/raw/main/\2)', text)
        return re.sub(link, lambda m: f'[{m[1]}]({m[2] if m[2].startswith("#") else f"{repository}/blob/main/{m[2]}"})', text)
    text = re.sub(picture, '', text)
    return re.sub(link, lambda m: m[0] if m[2].startswith('#') else m[1], text)


# What the command lines read, print and draw with.
# pycocotools 2.0.10 evaluates no annotations without `info`.
TOOLS = [
    'adjustText',
    'faster-coco-eval',
    'filelock>=3.31.2',
    'matplotlib',
    'pillow',
    'prettytable',
    'pycocotools!=2.0.10',
    'pyyaml',
    'rich',
    'scipy',
]
EXPORT = ['onnx', 'onnxruntime', 'onnxscript']
# The two stacks own the same package folders (mmcv, mmdet, ...), so neither is forced on the user: choose one extra.
# ftfy and regex: mmsegmentation 1.2.2 imports them without declaring them.
STACKS = {
    'openmmlab': [*TOOLS, 'mmengine==0.10.7', 'mmcv==2.1.0', 'mmdet==3.3.0', 'mmsegmentation==1.2.2', 'ftfy', 'regex'],
    'onedl': [
        *TOOLS,
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
    description='DySample and its rivals: learned upsampling for mmdetection, mmsegmentation and any other PyTorch model',
    long_description=readme_for_index((ROOT / 'README.md').read_text(encoding='utf-8'), REPOSITORY),
    long_description_content_type='text/markdown',
    author='The mmdysample authors',
    license='Apache-2.0',
    license_files=['LICENSE'],
    url='https://arxiv.org/abs/2308.15085',
    project_urls={
        'Paper': 'https://arxiv.org/abs/2308.15085',
        "Authors' implementation": 'https://github.com/tiny-smart/dysample',
        **({'Source': REPOSITORY, 'Changelog': f'{REPOSITORY}/blob/main/CHANGELOG.md'} if REPOSITORY else {}),
    },
    keywords=['upsampling', 'DySample', 'CARAFE', 'detection', 'segmentation', 'mmdetection', 'mmsegmentation', 'OpenMMLab', 'PyTorch'],
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Science/Research',
        'Intended Audience :: Developers',
        'Operating System :: OS Independent',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
        'Topic :: Scientific/Engineering :: Image Recognition',
        'Typing :: Typed',
    ],
    packages=find_packages(include=['mmdysample', 'mmdysample.*']),
    package_data={'mmdysample': ['py.typed'], 'mmdysample.paper': ['*.yaml'], 'mmdysample.ultralytics': ['models/*.yaml']},
    python_requires='>=3.10',
    install_requires=['torch>=2.6', 'numpy', 'packaging'],
    extras_require={
        **STACKS,
        'tools': TOOLS,
        'export': EXPORT,
        'docs': ['markdown-exec', 'mkdocs-material', 'mkdocstrings[python]'],
        # Models from outside, for tests; Ultralytics and timm come beside them (Makefile).
        'foreign': [
            *TOOLS,
            *EXPORT,
            'mmengine==0.10.7',
            'transformers==5.23.0',
            'diffusers==0.42.1',
            'monai==1.6.1',
            'accelerate',
            'pytest',
            'pytest-timeout',
        ],
        # triton: the kernels by its interpreter where there is no GPU; PyTorch's CUDA builds bring the one that they want.
        'dev': [
            *EXPORT,
            'build',
            'import-linter',
            'mypy',
            'onnxsim',
            'onnxslim',
            'openvino',
            'pyroma',
            'pytest',
            'pytest-timeout',
            'pytest-xdist',
            'ruff',
            'safetensors',
            'triton; platform_system == "Linux"',
            'twine',
        ],
    },
    cmdclass={'build_py': BuildWithMim},
)
