"""Write names beside the points of a figure without overlap."""

from collections.abc import Sequence
from typing import cast

from adjustText import adjust_text
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

# A number of iterations instead of a time limit, so that a figure is the same on every machine. Twenty names converge well before.
ITERATIONS = 1000
# In points: the margin around markers, and the distance beyond which a line connects a name with its point.
MARGIN, FAR = 2.0, 10.0
LEADER = dict(arrowstyle='-', color='0.4', linewidth=0.6)


def name_points(ax: Axes, names: Sequence[str], points: Sequence[tuple[float, float]], drawn: Sequence[Line2D]) -> list[Text]:
    """Write each name beside its point without overlap. A line connects a name that is far from its point.

    Args:
        ax: The axes, with everything else drawn. The layout of its figure is fixed here.
        names: The names.
        points: The points in data coordinates.
        drawn: Markers and lines that the names must not cover.

    Returns:
        The texts of the names.
    """
    figure = cast(Figure, ax.figure)
    figure.draw_without_rendering()
    figure.set_layout_engine('none')  # names are placed in pixels, so the layout must not change afterwards
    pixels = figure.dpi / 72
    # adjustText 1.4 takes the extents of objects for data coordinates, but those of lines are in pixels.
    boxes = [line.get_window_extent().padded(pixels * MARGIN).transformed(ax.transData.inverted()) for line in drawn]
    texts = [ax.text(x, y, name, fontsize=8, ha='center', va='center') for name, (x, y) in zip(names, points)]
    adjust_text(texts, ax=ax, objects=boxes, expand=(1.1, 1.2), iter_lim=ITERATIONS, min_arrow_len=pixels * FAR, arrowprops=LEADER)
    return texts
