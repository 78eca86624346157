"""Describe an exported file to the user."""

from collections import Counter

from mmengine.config import Config

from mmdysample.functional.capture import DEFORM_CONV
from mmdysample.pictures.loaded_model import LoadedModel
from mmdysample.terminal.tables import Row, render

from .check import Difference
from .export import Exported
from .forms import Form


def describe(exported: Exported, form: Form, loaded: LoadedModel) -> str:
    """Return a description of an exported file.

    Returns:
        Lines with the table of differences, the inputs and outputs, the preprocessing that is not in the file, and the accepted sizes.
    """
    subject = exported.subject
    shapes = (_shape(name, tuple(tensor.shape), exported.axes[name]) for name, tensor in subject.inputs.items())
    lines = [
        f'exported: {subject.title} of {loaded.title}',
        f'checked against PyTorch{" in float32" if exported.half else ""}, on '
        f'{", ".join(dict.fromkeys(str(found.images) for found in exported.differences))}:',
        render(_worst(exported, str(form)), 'text', left=('form', 'runtime', 'output')),
        f'input: {", ".join(shapes)}',
    ]
    if subject.part is None:
        lines += [f'output: {subject.whole.gives}', f'preprocessing: {normalisation(loaded.config, exported.subject.images.channels)}']
        lines += inference(loaded.config)
    sampling = Counter(next((word for word in (form.grid_sample, DEFORM_CONV) if word in name), '') for name in exported.operators)
    lines += [f'sizes: {exported.sizes}', f'{form.grid_sample}: {sampling[form.grid_sample] or "none"}']
    if sampling[DEFORM_CONV]:
        lines.append(f'{DEFORM_CONV}: {sampling[DEFORM_CONV]}')
    lines += form.shut_out(exported.operators)
    lines += [runtime.hint for runtime in form.runtimes if runtime.hint]
    if loaded.checkpoint is None:
        lines.append('untrained: no checkpoint was given')
    return '\n'.join(lines)


def normalisation(config: Config, channels: int = 3) -> str:
    """Return a sentence on the preprocessing of pixels by a config's data preprocessor."""
    said = config.model.get('data_preprocessor') or {}
    order = ('RGB' if said.get('bgr_to_rgb') else 'BGR') if channels == 3 else '1 channel' if channels == 1 else f'{channels} channels'
    of = 'in' if channels == 3 else 'of'
    if said.get('mean') is None:
        return f'the input is an image {of} {order}, with pixels from 0 to 255, not normalised'
    return f'the input is an image {of} {order}, normalised: (pixel - mean) / std, mean {list(said["mean"])}, std {list(said["std"])}'


def inference(config: Config) -> list[str]:
    """Return a line if a config is tested in another way than by one pass over the whole image, which is what a file does."""
    mode = (config.model.get('test_cfg') or {}).get('mode', 'whole')
    if mode == 'whole':
        return []
    return [f'inference: one pass over the whole image; tools/test.py tests this model with mode={mode!r}, so its scores differ']


def _shape(name: str, shape: tuple[int, ...], axes: tuple[int, ...]) -> str:
    """Return the name and shape of an input, with letters for the dynamic sizes."""
    letters = 'BCHW' if len(shape) == 4 else '?' * len(shape)
    return f'{name} ({", ".join(letters[axis] if axis in axes else str(size) for axis, size in enumerate(shape))})'


def _worst(exported: Exported, form: str) -> list[Row]:
    """Return a row for each runtime and output, from the check with the largest relative difference from PyTorch."""
    checks: dict[tuple[str, str], list[Difference]] = {}
    for found in exported.differences:
        checks.setdefault((found.runtime, found.output), []).append(found)
    return [max(found, key=lambda d: d.relative).row(form) for found in checks.values()]
