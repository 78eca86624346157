"""The report on each call of ``F.interpolate`` in a model: replaced, or left unchanged with a reason.

The report calls such a call a site.
"""

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from .calls import Size
from .recipe import upsample_recipe
from .routing import restore_upsample


@dataclass(frozen=True)
class Site:
    """A call of ``F.interpolate`` in a model.

    Attributes:
        name: The name of the module that interpolates. A number follows, as in ``neck:0`` and ``neck:1``, unless the module that owns the
            upsamplers makes a single call and has no children.
        channels: Channels ``C`` of the map; 0 if the input is not a map ``(B, C, H, W)``.
        size: Height and width of the input in the run with the example inputs.
        target: Height and width of the output in the same run.
        mode: The interpolation mode: ``'nearest'``, ``'bilinear'``, ...
        upsampler: The upsampler that replaces the call, such as ``'DySample x2'``; empty if the call is unchanged.
        parameters: The number of parameters of the upsampler.
        reason: The reason the call is unchanged; empty if it is replaced.
        leaves: Whether the result leaves the model without passing a trained layer, so that it is probably a class map, a depth map or
            another prediction. :class:`~mmdysample.replacement.trail.Trail` says what is seen.
        align_corners: Whether it interpolated with ``align_corners=True``, as no upsampler does.
    """

    name: str
    channels: int
    size: Size
    target: Size
    mode: str
    upsampler: str = ''
    parameters: int = 0
    reason: str = ''
    leaves: bool = False
    align_corners: bool = False

    @property
    def was(self) -> str:
        """The mode, with ``align_corners`` if it is set."""
        return f'{self.mode}, align_corners' if self.align_corners else self.mode

    @property
    def mark(self) -> str:
        """What the report adds to a site whose result leaves the model."""
        return ' (class map?)' if self.leaves else ''


@dataclass
class UpsampleReport:
    """The sites of a model, in the order of its calls. ``print`` shows them as a table."""

    sites: list[Site]
    model: nn.Module = field(repr=False)

    @property
    def replaced(self) -> list[Site]:
        """The sites that have an upsampler."""
        return [site for site in self.sites if site.upsampler]

    @property
    def left(self) -> list[Site]:
        """The sites that are unchanged, each with its reason."""
        return [site for site in self.sites if not site.upsampler]

    @property
    def parameters(self) -> int:
        """The number of parameters that the upsamplers add to the model."""
        return sum(site.parameters for site in self.sites)

    @property
    def recipe(self) -> dict[str, Any]:
        """The recipe, from which :func:`~mmdysample.apply_upsample` puts the same upsamplers into another model.

        See :func:`~mmdysample.upsample_recipe`, also for the errors.
        """
        return upsample_recipe(self.model)

    def undo(self) -> None:
        """Remove the upsamplers again; see :func:`~mmdysample.replacement.restore_upsample`."""
        restore_upsample(self.model)

    def __str__(self) -> str:
        """Return the sites as a Markdown table, in columns of equal width."""
        rows: list[tuple[str, ...]] = [('site', 'channels', 'from', 'to', 'was', 'is now', 'parameters')]
        for site in self.sites:
            now = (site.upsampler, f'{site.parameters:,}') if site.upsampler else (f'left: {site.reason}', '')
            rows.append((site.name, f'{site.channels or ""}', _by(site.size), _by(site.target), site.was, now[0] + site.mark, now[1]))
        # This module may need torch only, so it formats the table without a library.
        widths = [max(map(len, column)) for column in zip(*rows)]
        rows.insert(1, tuple('-' * width for width in widths))
        return '\n'.join(f'| {" | ".join(cell.ljust(width) for cell, width in zip(row, widths))} |' for row in rows)


def _by(size: Size) -> str:
    return f'{size[0]}x{size[1]}' if any(size) else ''
