"""The targets for the cost of DySample at the size of the paper's Figure 1, and whether measurements meet them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from .formulations import TEXTBOOK, MeasuredFormulation
from .upsamplers import REFERENCE, SIZE


@dataclass(frozen=True)
class Target:
    """A bound on the cost of the path that DySample takes by default.

    Args:
        device: ``'cpu'`` or ``'cuda'``.
        label: A key of ``PASSES``.
        against: The formulation to compare with.
        limit: The minimum of the time of ``against`` divided by DySample's if ``faster``; otherwise the maximum of DySample's time (or
            memory) divided by that of ``against``.
        faster: Whether ``limit`` is a minimum.
        memory: Whether peak memory is compared instead of time.
    """

    device: str
    label: str
    against: str
    limit: float
    faster: bool = False
    memory: bool = False

    def __str__(self) -> str:
        if self.faster:
            return f'{self.label}: at least {self.limit:g}x faster than {self.against}'
        return f'{self.label}{", peak memory" if self.memory else ""}: at most {self.limit:g}x {self.against}'


TARGETS = (
    Target('cpu', 'forward', REFERENCE, 1.15),
    Target('cpu', 'forward + backward', REFERENCE, 1.3),
    Target('cuda', 'forward', REFERENCE, 1.3),
    Target('cuda', 'forward', TEXTBOOK, 3, faster=True),
    Target('cuda', 'forward + backward', TEXTBOOK, 2, faster=True),
    Target('cuda', 'forward + backward', REFERENCE, 1.2, memory=True),
)


@dataclass(frozen=True)
class Verdict:
    """A target and the measured ratio.

    Args:
        target: The target.
        path: The path that was measured.
        ratio: The ratio that the target bounds; None if either side was not measured.
    """

    target: Target
    path: str = ''
    ratio: Optional[float] = None

    @property
    def met(self) -> Optional[bool]:
        """Whether the target is met; None if it was not measured."""
        if self.ratio is None:
            return None
        return self.ratio >= self.target.limit if self.target.faster else self.ratio <= self.target.limit


def judge(rows: Sequence[MeasuredFormulation], device: str) -> list[Verdict]:
    """Compare measurements of ``DySample`` at x2 with the targets of a device; only rows in float32 at the targets' size count."""
    counting = [row for row in rows if (row.size, row.dtype) == (SIZE, 'float32')]
    return [_judge(target, [row for row in counting if row.label == target.label]) for target in TARGETS if target.device == device]


def _judge(target: Target, rows: Sequence[MeasuredFormulation]) -> Verdict:
    ours = next((row for row in rows if row.default), None)
    other = next((row for row in rows if row.name == target.against), None)
    values = [_value(row, target.memory) for row in (ours, other)]
    if ours is None or not all(values):
        return Verdict(target)
    mine, theirs = values
    return Verdict(target, ours.name, theirs / mine if target.faster else mine / theirs)


def _value(row: Optional[MeasuredFormulation], memory: bool) -> float:
    """Return the time or memory to compare; 0 if there is none."""
    if row is None:
        return 0
    return row.memory or 0 if memory else row.time.median if row.time else 0
