"""Export a model, check the file against PyTorch, and only then give it its name."""

import tempfile
from contextlib import nullcontext
from dataclasses import dataclass
from math import gcd
from pathlib import Path
from typing import Optional

from torch import nn

from mmdysample.engine.errors import one_line, show_traceback

from .attention import open_attention
from .check import Difference, MismatchError, compare, opened, require_within
from .forms import Axes, Form, Run
from .gathers import without_grid_sample
from .subject import Images, Subject, make_subject

# The coarsest stride of the pyramids here: sizes that differ by it differ on every level, and round alike.
STRIDE = 64


@dataclass(frozen=True)
class Exported:
    """A file that computes what PyTorch does."""

    subject: Subject
    axes: Axes  # what is open in its inputs
    path: Path
    differences: list[Difference]  # of each output, for each batch of images that it was checked with
    sizes: str  # which images it takes
    grid_samples: int  # how many there are in it


def export(
    model: nn.Module,
    form: Form,
    path: Path,
    part: Optional[str] = None,
    size: tuple[int, int] = (128, 192),
    gathers: bool = False,
    fixed: bool = False,
) -> Exported:
    """Export a model or a part of it, with batch, height and width left open, and check it.

    It is checked on two images of the exported size, on three and on one of another; and tried on one of an odd size, and if need be on
    one of a multiple of 32.

    Args:
        model: The model, in evaluation mode, on the CPU.
        form: What to export to.
        path: The file; what lies there is replaced.
        part: The name of a module in the model; None for the whole.
        size: Height and width of the images that it is exported with.
        gathers: Export bilinear sampling without GridSample.
        fixed: Export for one image of this size alone.

    Raises:
        ValueError: The exporter fails, or the file does something else than PyTorch; then there is none. Or a folder lies there.
        OSError: The file cannot be written.
    """
    images = Images(1 if fixed else 2, *size)
    second = Images(3, size[0] + STRIDE, size[1] + 2 * STRIDE)
    subject = make_subject(model, part, images)
    axes: Axes = {name: () for name in subject.inputs} if fixed else _open_axes(subject, second)
    if path.is_dir():
        raise ValueError(f'{path} is a folder: choose another --out')
    path.parent.mkdir(parents=True, exist_ok=True)
    # Beside its place, whence it gets there in one step.
    with tempfile.TemporaryDirectory(prefix=f'.{path.name}.', dir=path.parent) as folder:
        file = Path(folder) / f'model{form.suffix}'
        try:
            with open_attention(model), without_grid_sample() if gathers else nullcontext():
                form.write(subject, axes, file)
        except Exception as error:  # whatever a model makes an exporter do
            if show_traceback():
                raise
            raise ValueError(f'{_failure(form, error)}. {_remedy(form, fixed)} (MMDYSAMPLE_TRACEBACK=1 shows where)') from error
        count = sum(form.grid_sample in name for name in form.operators(file))
        if gathers and count:
            raise ValueError(
                f'{count} {form.grid_sample} are left in {subject.title}: something in it samples by itself, which --without-grid-sample '
                'cannot change; choose a --part without it'
            )
        try:
            run = opened(form, file)
            differences = []
            for batch in (images,) if fixed else (images, second, second._replace(batch=1)):
                differences += compare(subject, run, batch)
                require_within(differences)
        except MismatchError as error:
            raise ValueError(
                f'{form} of {subject.title} was written and is not kept, because in {form.runtime} {error}. {_remedy(form, fixed)}'
            ) from error
        sizes = f'{images} alone' if fixed else _which_sizes(subject, run, images, second)
        file.replace(path)
    return Exported(subject, axes, path, differences, sizes, count)


def _open_axes(subject: Subject, second: Images) -> Axes:
    """The axes of the inputs that change with the images."""
    others = subject.inputs_for(second)
    return {
        name: tuple(axis for axis, (a, b) in enumerate(zip(tensor.shape, others[name].shape)) if a != b)
        for name, tensor in subject.inputs.items()
    }


def _which_sizes(subject: Subject, run: Run, images: Images, second: Images) -> str:
    """Which images it takes, found out by trying."""
    odd, halved = Images(1, images.height + 5, images.width + 11), Images(1, images.height + STRIDE // 2, images.width + 3 * STRIDE // 2)
    refused = _try(subject, run, odd)
    if not refused:
        return f'any; {odd} was tried, too'
    taken = [images, second]
    if not _try(subject, run, halved):
        taken.append(halved)
    step = gcd(*(side for batch in taken for side in batch[1:]))
    sizes = f'multiples of {step}' if step >= STRIDE // 2 else f'such as {", ".join(f"{h}x{w}" for _, h, w in taken)}'
    return f'{sizes}; {odd} {refused}'


def _try(subject: Subject, run: Run, images: Images) -> str:
    """What goes wrong; nothing if nothing does."""
    try:
        require_within(compare(subject, run, images))
    except MismatchError as error:
        return 'is computed wrong' if error.silent else 'is refused'
    except ValueError:
        return 'is nothing that the model takes'
    return ''


def _failure(form: Form, error: BaseException) -> str:
    while error.__cause__ is not None:  # exporters wrap what happened in advice
        error = error.__cause__
    return f'{form} cannot be had of this model: {type(error).__name__}: {one_line(error)[:300]}'


def _remedy(form: Form, fixed: bool) -> str:
    choices = [form.alternative, *([] if fixed else ['--fixed for images of one size']), '--part for a piece of the model']
    return f'Try {", ".join(choices[:-1])} or {choices[-1]}'
