"""Check that an exported file computes the same as PyTorch, at the size of the export and at other sizes."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from mmdysample.engine.errors import one_line
from mmdysample.terminal.tables import Row

from .runtimes import Run, Runtime
from .subject import Images, Subject, halved

# Relative to the largest value of an output. In float32, rounding in a deep network causes up to 1e-5, a wrong size or sampling point more
# than 1e-2. Float16 rounds to 5e-4 in every layer.
TOLERANCE, HALF_TOLERANCE = 1e-3, 3e-2


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

    runtime: str
    output: str
    images: Images
    shape: tuple[int, ...]
    largest: float  # the largest absolute difference
    relative: float  # the same, divided by the largest absolute value of the output
    tolerance: float = TOLERANCE

    @property
    def within(self) -> bool:
        """Whether the difference may be due to rounding. False for NaN."""
        return self.relative <= self.tolerance

    def row(self, form: str) -> Row:
        """Return it as a row of a table."""
        return {
            'form': form,
            'runtime': self.runtime,
            'images': str(self.images),
            'output': self.output,
            'shape': 'x'.join(map(str, self.shape)),
            'largest difference': f'{self.largest:.1e}',
            'relative': f'{self.relative:.1e}',
        }


def opened(runtime: Runtime, path: Path) -> Run:
    """Open a file in a runtime.

    Raises:
        MismatchError: The runtime cannot open it.
    """
    try:
        return runtime.open(path)
    except Exception as error:  # each runtime raises its own classes
        raise MismatchError(f'it cannot be opened ({type(error).__name__}: {one_line(error)[:300]})', silent=False) from error


def compare(subject: Subject, runtime: str, run: Run, images: Images, half: bool = False) -> list[Difference]:
    """Return the differences between a file and PyTorch on the same images.

    Args:
        subject: The model in float32.
        runtime: The name of the runtime.
        run: The file in it.
        images: The size of the images.
        half: Whether the file computes in float16.

    Raises:
        ValueError: The model cannot be run on these images in PyTorch.
        MismatchError: The runtime fails on them, or returns outputs of other shapes.
    """
    inputs = subject.inputs_for(images)
    expected = subject(inputs)
    try:
        got = run(halved(inputs) if half else inputs)
    except Exception as error:  # each runtime raises its own classes
        raise MismatchError(f'it cannot be run on {images} ({type(error).__name__}: {one_line(error)[:300]})', silent=False) from error
    shapes = [[tuple(tensor.shape) for tensor in tensors] for tensors in (got, expected)]
    if shapes[0] != shapes[1]:
        raise MismatchError(f'on {images} its outputs have the shapes {shapes[0]}, but those of PyTorch have {shapes[1]}', silent=True)
    tolerance = HALF_TOLERANCE if half else TOLERANCE
    return [
        Difference(runtime, name, images, tuple(theirs.shape), *_largest(ours, theirs), tolerance)
        for name, ours, theirs in zip(subject.outputs, got, expected)
    ]


def require_within(differences: list[Difference]) -> None:
    """Check that no difference exceeds the tolerance.

    Raises:
        MismatchError: A difference exceeds it.
    """
    for found in differences:
        if not found.within:
            raise MismatchError(
                f'on {found.images} its {found.output} differs from that of PyTorch by {found.largest:.1e}, which is {found.relative:.1e} '
                f'of the largest value; the tolerance for rounding is {found.tolerance:.0e}',
                silent=True,
            )


def _largest(got: Tensor, expected: Tensor) -> tuple[float, float]:
    """Return the largest absolute difference, and the same relative to the largest absolute value."""
    if not expected.numel():
        return 0.0, 0.0
    largest = (got.double() - expected.double()).abs().max().item()
    scale = expected.double().abs().max().item()
    return largest, largest / scale if scale else largest
