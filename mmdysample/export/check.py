"""Check that an exported file computes the same as PyTorch, at the size of the export and at other sizes."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from mmdysample.engine.errors import one_line
from mmdysample.terminal.tables import Row

from .forms import Form, Run
from .subject import Images, Subject

# Relative to the largest value of an output. Rounding in a deep network causes up to 1e-5, a wrong size or sampling point more than 1e-2.
TOLERANCE = 1e-3


class MismatchError(Exception):
    """An exported file does not compute the same as PyTorch.

    Args:
        text: The difference.
        silent: True if the file returns wrong outputs, False if the runtime raises an error.
    """

    def __init__(self, text: str, silent: bool) -> None:
        super().__init__(text)
        self.silent = silent


@dataclass(frozen=True)
class Difference:
    """The difference of an output from PyTorch's."""

    output: str
    images: Images
    shape: tuple[int, ...]
    largest: float  # the largest absolute difference
    relative: float  # the same, divided by the largest absolute value of the output

    @property
    def within(self) -> bool:
        """Whether the difference may be due to rounding. False for NaN."""
        return self.relative <= TOLERANCE

    def row(self, form: str) -> Row:
        """Return it as a row of a table."""
        return {
            'form': form,
            'images': str(self.images),
            'output': self.output,
            'shape': 'x'.join(map(str, self.shape)),
            'largest difference': f'{self.largest:.1e}',
            'relative': f'{self.relative:.1e}',
        }


def opened(form: Form, path: Path) -> Run:
    """Open a file in the runtime of its format.

    Raises:
        MismatchError: The runtime cannot open it.
    """
    try:
        return form.open(path)
    except Exception as error:  # each runtime raises its own classes
        raise MismatchError(f'it cannot be opened ({type(error).__name__}: {one_line(error)[:300]})', silent=False) from error


def compare(subject: Subject, run: Run, images: Images) -> list[Difference]:
    """Return the differences between a file and PyTorch on the same images.

    Raises:
        ValueError: The model cannot be run on these images in PyTorch.
        MismatchError: The runtime fails on them, or returns outputs of other shapes.
    """
    inputs = subject.inputs_for(images)
    expected = subject(inputs)
    try:
        got = run(inputs)
    except Exception as error:  # each runtime raises its own classes
        raise MismatchError(f'it cannot be run on {images} ({type(error).__name__}: {one_line(error)[:300]})', silent=False) from error
    shapes = [[tuple(tensor.shape) for tensor in tensors] for tensors in (got, expected)]
    if shapes[0] != shapes[1]:
        raise MismatchError(f'on {images} its outputs have the shapes {shapes[0]}, but those of PyTorch have {shapes[1]}', silent=True)
    return [_difference(name, images, ours, theirs) for name, ours, theirs in zip(subject.outputs, got, expected)]


def require_within(differences: list[Difference]) -> None:
    """Check that no difference exceeds the tolerance.

    Raises:
        MismatchError: A difference exceeds it.
    """
    for found in differences:
        if not found.within:
            raise MismatchError(
                f'on {found.images} its {found.output} differs from that of PyTorch by {found.largest:.1e}, which is {found.relative:.1e} '
                f'of the largest value; the tolerance for rounding is {TOLERANCE:.0e}',
                silent=True,
            )


def _difference(name: str, images: Images, got: Tensor, expected: Tensor) -> Difference:
    if not expected.numel():
        return Difference(name, images, tuple(expected.shape), 0.0, 0.0)
    largest = (got.double() - expected.double()).abs().max().item()
    scale = expected.double().abs().max().item()
    return Difference(name, images, tuple(expected.shape), largest, largest / scale if scale else largest)
