"""Set up a logarithmic axis with plain numbers at its ticks."""

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter


def use_log_axis(ax: Axes) -> None:
    """Make the x axis logarithmic, with ticks at 1, 2, 5, 10, 20, ..."""
    ax.set_xscale('log')
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.xaxis.set_major_formatter(StrMethodFormatter('{x:g}'))
    ax.xaxis.set_minor_formatter(NullFormatter())
