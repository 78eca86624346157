"""Export a model to a temporary file, check it against PyTorch, and rename it if it passes."""

import tempfile
from dataclasses import dataclass
from math import gcd
from pathlib import Path
from typing import NamedTuple, Optional

from torch import nn

from mmdysample.engine.errors import one_line, show_traceback
from mmdysample.functional.capture import DEFORM_CONV, GATHERS

from .attention import open_attention
from .check import Difference, MismatchError, compare, opened, require_within
from .forms import Axes, Form
from .runtimes import Run
from .subject import Images, Subject, make_subject

# The coarsest stride of the FPNs here. Sizes that differ by a multiple of it differ on every level, and every level rounds both alike.
STRIDE = 64


@dataclass(frozen=True)
class Exported:
    """An exported file that computes the same as PyTorch."""

    subject: Subject
    axes: Axes  # the dynamic axes of its inputs
    path: Path
    differences: list[Difference]  # for each output and each batch of images that was checked
    sizes: str  # the image sizes that it accepts
    operators: list[str]  # the names of its operators, with repetitions
    half: bool  # whether it computes in float16


def export(
    model: nn.Module,
    form: Form,
    path: Path,
    part: Optional[str] = None,
    size: tuple[int, int] = (128, 192),
    fixed: bool = False,
    half: bool = False,
    channels: int = 3,
    step: int = STRIDE,
) -> Exported:
    """Export a model or a part of it, with dynamic batch, height and width unless ``fixed``, and check the file.

    In each of the form's runtimes, the file must agree with PyTorch on two images of the exported size, and on three images and one image
    of a second size. To report which sizes it accepts, each runtime then tries an image of an odd size, and if that fails, one larger by
    multiples of 32.

    Args:
        model: The model, in evaluation mode, on the CPU.
        form: The format of the file.
        path: The file. An existing file is overwritten.
        part: The name of a module in the model; None for the whole model.
        size: Height and width of the images to export with.
        fixed: Whether to export for one image of this size only.
        half: Whether the file computes in float16. It is compared with the model in float32. Sampling points stay in float32.
        channels: Channels of the image.
        step: By how many pixels the second size is higher; it is wider by twice as many.

    Raises:
        ValueError: The exporter fails, the file differs from PyTorch (it is then deleted), or ``path`` is a folder.
        OSError: The file cannot be written.
    """
    images = Images(1 if fixed else 2, *size, channels)
    second = images._replace(batch=3, height=size[0] + step, width=size[1] + 2 * step)
    subject = make_subject(model, part, images)
    axes: Axes = {name: () for name in subject.inputs} if fixed else _open_axes(subject, second)
    if path.is_dir():
        raise ValueError(f'{path} is a folder: choose another --out')
    path.parent.mkdir(parents=True, exist_ok=True)
    # A folder next to the file, so that the file can be renamed in one step.
    with tempfile.TemporaryDirectory(prefix=f'.{path.name}.', dir=path.parent) as folder:
        file = Path(folder) / f'model{form.suffix}'
        try:
            with open_attention(model), form.recording(fixed):
                form.write(subject.half() if half else subject, axes, file)
        except Exception as error:  # exporters can raise any exception
            if show_traceback():
                raise
            raise ValueError(f'{_failure(form, error)}. {_remedy(form, fixed)} (MMDYSAMPLE_TRACEBACK=1 shows where)') from error
        operators = form.operators(file)
        count = sum(form.grid_sample in name for name in operators)
        if form.sampling == GATHERS and count:
            raise ValueError(
                f'{count} {form.grid_sample} are left in {subject.title}: one of its modules calls grid_sample itself, which '
                '--without-grid-sample cannot change; choose a --part without that module'
            )
        runs: dict[str, Run] = {}
        differences = []
        for runtime in form.runtimes:
            name = str(runtime)
            try:
                runs[name] = opened(runtime, file)
                for batch in (images,) if fixed else (images, second, second._replace(batch=1)):
                    differences += compare(subject, name, runs[name], batch, half)
                    require_within(differences)
            except MismatchError as error:
                raise ValueError(
                    f'{form} of {subject.title} was written but deleted, because in {name} {error}. {_remedy(form, fixed)}'
                ) from error
        sizes = (
            f'{images} alone'
            if fixed
            else _accepted({name: _Trial(subject, name, run, half).sizes(images, second) for name, run in runs.items()})
        )
        del runs  # Windows does not rename a file that a runtime holds open
        file.replace(path)
    return Exported(subject, axes, path, differences, sizes, operators, half)


def _accepted(sizes: dict[str, str]) -> str:
    """Return the sizes that a file accepts in each runtime, once if they are the same in all."""
    return next(iter(sizes.values())) if len(set(sizes.values())) == 1 else '; '.join(f'in {name}: {text}' for name, text in sizes.items())


def _open_axes(subject: Subject, second: Images) -> Axes:
    """Return the axes of the inputs whose sizes change with those of the images."""
    others = subject.inputs_for(second)
    return {
        name: tuple(axis for axis, (a, b) in enumerate(zip(tensor.shape, others[name].shape)) if a != b)
        for name, tensor in subject.inputs.items()
    }


class _Trial(NamedTuple):
    """A file in a runtime, to find out by trying which image sizes it accepts."""

    subject: Subject
    runtime: str
    run: Run
    half: bool

    def sizes(self, images: Images, second: Images) -> str:
        """Return a text on the sizes that the file accepts, which are at least those of ``images`` and ``second``."""
        odd = images._replace(batch=1, height=images.height + 5, width=images.width + 11)
        halved = images._replace(batch=1, height=images.height + STRIDE // 2, width=images.width + 3 * STRIDE // 2)
        refused = self.try_(odd)
        if not refused:
            return f'any; {odd} was also tried'
        taken = [images, second]
        if not self.try_(halved):
            taken.append(halved)
        step = gcd(*(side for batch in taken for side in batch[1:3]))
        sizes = (
            f'multiples of {step}' if step >= STRIDE // 2 else f'such as {", ".join(f"{batch.height}x{batch.width}" for batch in taken)}'
        )
        return f'{sizes}; {odd} {refused}'

    def try_(self, images: Images) -> str:
        """Return how the file fails on images; an empty string if it does not."""
        try:
            require_within(compare(self.subject, self.runtime, self.run, images, self.half))
        except MismatchError as error:
            return 'is computed wrong' if error.silent else 'is refused'
        except ValueError:
            return 'is not accepted by the model'
        return ''


def _failure(form: Form, error: BaseException) -> str:
    while error.__cause__ is not None:  # exporters wrap the original error in general advice
        error = error.__cause__
    return f'{form} failed on this model: {type(error).__name__}: {one_line(error)[:300]}'


def _remedy(form: Form, fixed: bool) -> str:
    choices = [
        *(['--for any'] if form.sampling == DEFORM_CONV else [form.alternative]),
        *([] if fixed else ['--fixed for images of one size']),
        '--part for a part of the model',
    ]
    return f'Try {", ".join(choices[:-1])} or {choices[-1]}'
