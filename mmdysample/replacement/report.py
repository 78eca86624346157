"""What was done at each place where a model interpolates."""

from dataclasses import dataclass, field

from torch import nn

from .calls import Size
from .routing import restore_upsample


@dataclass(frozen=True)
class Site:
    """A place where a model interpolates.

    Attributes:
        name: The module's name, and a number where a ``forward`` does it by itself: ``neck:0``, ``neck:1``.
        channels: Channels ``C`` of the map.
        size: Height and width of the input in the run with the example inputs.
        target: Height and width of the output there.
        mode: What was interpolated by: ``'nearest'``, ``'bilinear'``, ...
        upsampler: What stands there now, such as ``'DySample x2'``; empty where all stayed as it was.
        parameters: How many parameters that has.
        reason: Why all stayed as it was.
    """

    name: str
    channels: int
    size: Size
    target: Size
    mode: str
    upsampler: str = ''
    parameters: int = 0
    reason: str = ''


@dataclass
class UpsampleReport:
    """The sites of a model, in the order of its run; printed, it is a table."""

    sites: list[Site]
    model: nn.Module = field(repr=False)

    @property
    def replaced(self) -> list[Site]:
        """The sites that have an upsampler now."""
        return [site for site in self.sites if site.upsampler]

    @property
    def left(self) -> list[Site]:
        """The sites where all stayed as it was, each with its reason."""
        return [site for site in self.sites if not site.upsampler]

    @property
    def parameters(self) -> int:
        """How many parameters were added."""
        return sum(site.parameters for site in self.sites)

    def undo(self) -> None:
        """Take the upsamplers out again; see :func:`~mmdysample.replacement.restore_upsample`."""
        restore_upsample(self.model)

    def __str__(self) -> str:
        """Return the sites as a Markdown table, in columns of equal width."""
        rows: list[tuple[str, ...]] = [('site', 'channels', 'from', 'to', 'was', 'is now', 'parameters')]
        for site in self.sites:
            now = (site.upsampler, f'{site.parameters:,}') if site.upsampler else (f'left: {site.reason}', '')
            rows.append((site.name, f'{site.channels or ""}', _by(site.size), _by(site.target), site.mode, *now))
        # Nothing but torch may be needed here, so no library prints this one table.
        widths = [max(map(len, column)) for column in zip(*rows)]
        rows.insert(1, tuple('-' * width for width in widths))
        return '\n'.join(f'| {" | ".join(cell.ljust(width) for cell, width in zip(row, widths))} |' for row in rows)


def _by(size: Size) -> str:
    return f'{size[0]}x{size[1]}' if any(size) else ''
