"""Print the versions, the devices and the chosen paths of this environment: ``python -m mmdysample.env``."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version

import torch

from mmdysample.functional import explain_path
from mmdysample.version import __version__

PACKAGES = (
    'numpy', 'triton', 'mmengine', 'mmcv', 'mmcv-lite', 'mmdet', 'mmsegmentation', 'onedl-mmengine', 'onedl-mmcv', 'onedl-mmdetection',
    'onedl-mmsegmentation', 'transformers', 'ultralytics', 'onnx', 'onnxruntime',
)  # fmt: skip
VARIABLES = ('MMDYSAMPLE_PATH', 'TRITON_INTERPRET', 'OMP_NUM_THREADS', 'CUDA_VISIBLE_DEVICES')


def describe() -> list[str]:
    """Return the lines that a bug report needs. They hold no path, user name or host name."""
    lines = [
        f'mmdysample {__version__}',
        f'Python {platform.python_version()}, {platform.system()} {platform.machine()}',
        f'torch {torch.__version__}, {torch.get_num_threads()} CPU threads, CUDA {torch.version.cuda or "not in this build"}',
        ', '.join(f'{name} {found}' for name in PACKAGES if (found := _version(name))) or 'no other package that mmdysample uses',
    ]
    lines += [f'{name}={os.environ[name]}' for name in VARIABLES if name in os.environ]
    devices = [torch.device('cpu'), *(torch.device('cuda', i) for i in range(torch.cuda.device_count()))]
    for device in devices:
        if device.type == 'cuda':
            major, minor = torch.cuda.get_device_capability(device)
            lines.append(f'{device}: {torch.cuda.get_device_name(device)}, compute capability {major}.{minor}')
        for training in (True, False):
            path, reason = explain_path(torch.zeros(1, 4, 2, 2, device=device), training=training)
            lines.append(f'{device}, {"training" if training else "inference"}: path {path}, because {reason}')
    return lines


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ''


if __name__ == '__main__':
    print('\n'.join(describe()))
