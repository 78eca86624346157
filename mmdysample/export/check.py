"""Whether an exported file computes what PyTorch does, at the size that it was exported at and at others."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from mmdysample.engine.errors import one_line
from mmdysample.terminal.tables import Row

from .forms import Form, Run
from .subject import Images, Subject

# Of the largest value of an output. Rounding makes up to 1e-5 in a deep network; a size or a point that is wrong, more than 1e-2.
TOLERANCE = 1e-3


class MismatchError(Exception):
    """What an exported file does is not what PyTorch does.

    Args:
        text: What it does.
        silent: Whether it does so without an error.
    """

    def __init__(self, text: str, silent: bool) -> None:
        super().__init__(text)
        self.silent = silent


@dataclass(frozen=True)
class Difference:
    """How far an output is from PyTorch's."""

    output: str
    images: Images
    shape: tuple[int, ...]
    largest: float  # difference, in absolute terms
    relative: float  # to the largest value of the output

    @property
    def within(self) -> bool:
        """Whether it is no more than rounding; a difference that is no number is more."""
        return self.relative <= TOLERANCE

    def row(self, form: str) -> Row:
        """As a row of a table."""
        return {
            'form': form,
            'images': str(self.images),
            'output': self.output,
            'shape': 'x'.join(map(str, self.shape)),
            'largest difference': f'{self.largest:.1e}',
            'relative': f'{self.relative:.1e}',
        }


def opened(form: Form, path: Path) -> Run:
    """Open a file in the runtime of its form.

    Raises:
        MismatchError: The runtime refuses it.
    """
    try:
        return form.open(path)
    except Exception as error:  # each runtime has its own
        raise MismatchError(f'it cannot be opened ({type(error).__name__}: {one_line(error)[:300]})', silent=False) from error


def compare(subject: Subject, run: Run, images: Images) -> list[Difference]:
    """Run a file and PyTorch on the same images.

    Raises:
        ValueError: PyTorch cannot run on such images.
        MismatchError: The runtime cannot, or gives outputs of other shapes.
    """
    inputs = subject.inputs_for(images)
    expected = subject(inputs)
    try:
        got = run(inputs)
    except Exception as error:  # each runtime has its own
        raise MismatchError(f'it cannot be run on {images} ({type(error).__name__}: {one_line(error)[:300]})', silent=False) from error
    shapes = [[tuple(tensor.shape) for tensor in tensors] for tensors in (got, expected)]
    if shapes[0] != shapes[1]:
        raise MismatchError(f'on {images} its outputs have the shapes {shapes[0]}, where those of PyTorch are {shapes[1]}', silent=True)
    return [_difference(name, images, ours, theirs) for name, ours, theirs in zip(subject.outputs, got, expected)]


def require_within(differences: list[Difference]) -> None:
    """Check differences against the tolerance.

    Raises:
        MismatchError: One is larger.
    """
    for found in differences:
        if not found.within:
            raise MismatchError(
                f'on {found.images} its {found.output} differs from that of PyTorch by {found.largest:.1e}, which is {found.relative:.1e} '
                f'of the largest value, where {TOLERANCE:.0e} may be rounding',
                silent=True,
            )


def _difference(name: str, images: Images, got: Tensor, expected: Tensor) -> Difference:
    if not expected.numel():
        return Difference(name, images, tuple(expected.shape), 0.0, 0.0)
    largest = (got.double() - expected.double()).abs().max().item()
    scale = expected.double().abs().max().item()
    return Difference(name, images, tuple(expected.shape), largest, largest / scale if scale else largest)
