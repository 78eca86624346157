"""Names beside the points of a figure, none over another."""

from collections.abc import Sequence
from typing import cast

from adjustText import adjust_text
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

# Counted, not timed, so that a figure is the same on every machine; the names of twenty points have long come to rest.
ITERATIONS = 1000
# In points of paper: what a name keeps off, and how far away it has a line.
MARGIN, FAR = 2.0, 10.0
LEADER = dict(arrowstyle='-', color='0.4', linewidth=0.6)


def name_points(ax: Axes, names: Sequence[str], points: Sequence[tuple[float, float]], drawn: Sequence[Line2D]) -> list[Text]:
    """Write each name beside its point, off the other names and what is drawn; a line leads to one that lies further away.

    Args:
        ax: With all else drawn; it gets its final size here.
        names: What to write.
        points: Where, in data coordinates.
        drawn: Markers and lines that the names keep off.

    Returns:
        The names.
    """
    figure = cast(Figure, ax.figure)
    figure.draw_without_rendering()
    figure.set_layout_engine('none')  # names are placed in pixels: nothing may move any more
    pixels = figure.dpi / 72
    # In data coordinates: those of the screen, which lines have, adjustText 1.4 would take for them.
    boxes = [line.get_window_extent().padded(pixels * MARGIN).transformed(ax.transData.inverted()) for line in drawn]
    texts = [ax.text(x, y, name, fontsize=8, ha='center', va='center') for name, (x, y) in zip(names, points)]
    adjust_text(texts, ax=ax, objects=boxes, expand=(1.1, 1.2), iter_lim=ITERATIONS, min_arrow_len=pixels * FAR, arrowprops=LEADER)
    return texts
