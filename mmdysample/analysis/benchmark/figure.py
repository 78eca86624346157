"""The paper's Figure 1 with latencies measured here: mIoU over latency, and the multiplications as the area of a circle."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import matplotlib

matplotlib.use('Agg')
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from matplotlib.transforms import Bbox

from mmdysample.analysis.paper_tables import Cell
from mmdysample.analysis.upsamplers import segformer_multiplications

from .upsamplers import REFERENCE, Measured

# Square points of paper for each GFLOP; a dot marks the middle of a circle, however small it is.
AREA = 50.0
LEGEND = (1, 5, 15)
DOT = 3.5
# Latencies further apart than this are shown on a logarithmic axis.
LINEAR_UP_TO = 8.0
# What a name had better not lie on, in tens of points that it may go further away for that.
ON_A_CIRCLE, ON_A_WHISKER = 0.8, 1.2


@dataclass(frozen=True)
class Point:
    """A circle of the figure: latency in milliseconds with its quartiles, mIoU with its mark, and extra GFLOPs."""

    name: str
    ms: tuple[float, float, float]
    miou: Cell
    gflops: float

    @property
    def radius(self) -> float:
        """Of its circle, in points of paper, but at least that of the dot."""
        return max(math.sqrt(AREA * self.gflops / math.pi), DOT / 2)


def figure_points(rows: Sequence[Measured], miou: Callable[[str], Optional[Cell]]) -> list[Point]:
    """The circles of what was measured and has a published mIoU; their FLOPs are counted, beyond those of bilinear."""
    base = segformer_multiplications(REFERENCE)
    points = []
    for row in rows:
        cost, published = row.costs.get('forward'), miou(row.name)
        if cost and published:
            extra = max(0, segformer_multiplications(row.name) - base) / 1e9
            points.append(Point(row.name, (cost.time.q1, cost.time.median, cost.time.q3), published, extra))
    return points


def draw_figure(points: Sequence[Point], out: Path, latency_of: str, footnote: str) -> None:
    """Save the figure.

    Args:
        points: Its circles, at least one.
        out: The file.
        latency_of: What was timed, for the axis.
        footnote: A line below it.
    """
    figure, (key, ax) = plt.subplots(2, figsize=(8.0, 5.8), dpi=160, layout='constrained', height_ratios=(1, 11))
    medians = [point.ms[1] for point in points]
    logarithmic = max(medians) > LINEAR_UP_TO * min(medians)
    if logarithmic:
        ax.set_xscale('log')
        ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.xaxis.set_major_formatter(StrMethodFormatter('{x:g}'))
        ax.xaxis.set_minor_formatter(NullFormatter())
    colours = plt.get_cmap('tab20').colors  # type: ignore[attr-defined]
    for i, point in enumerate(sorted(points, key=lambda point: -point.gflops)):  # the small ones on top
        q1, median, q3 = point.ms
        value, read_off = float(point.miou.value), point.miou.mark == 'FIG'
        colour = colours[2 * i % 20 + i // 10 % 2]
        ax.scatter(median, value, s=AREA * point.gflops, color=colour, alpha=0.35, linewidths=0)
        ax.plot([q1, q3], [value, value], color=colour, linewidth=1)
        ax.plot(median, value, 'o', color=colour, markersize=DOT, markerfacecolor='white' if read_off else colour)
    ax.margins(x=0.12, y=0.16)
    ax.grid(alpha=0.25, which='both' if logarithmic else 'major', linewidth=0.5)
    ax.set_axisbelow(True)
    ax.set_xlabel(f'latency of {latency_of} (ms{", logarithmic" if logarithmic else ""}); whiskers: quartiles')
    ax.set_ylabel('mIoU of SegFormer-B1 on ADE20K, published (%)')
    _draw_key(key, any(point.miou.mark == 'FIG' for point in points))
    figure.supxlabel(footnote, fontsize=7, color='0.35')
    figure.canvas.draw()
    figure.set_layout_engine('none')  # names are placed in pixels: nothing may move any more
    place_names(ax, points)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi='figure')
    plt.close(figure)


def _draw_key(ax: Axes, read_off: bool) -> None:
    """Circles of some sizes, and what an open dot is. A legend of matplotlib has no room for circles so large."""
    ax.set(xlim=(0, 1), ylim=(0, 1))
    ax.set_axis_off()
    ax.text(0, 0.5, 'areas: GFLOPs added to SegFormer-B1\nat 512x512, counted here', fontsize=8, va='center')
    for x, gflops in zip((0.34, 0.42, 0.51), LEGEND):
        ax.scatter(x, 0.5, s=AREA * gflops, color='0.5', alpha=0.35, linewidths=0)
        ax.annotate(f'{gflops}', (x, 0.5), (math.sqrt(AREA * gflops / math.pi) + 3, 0), textcoords='offset points', fontsize=8, va='center')
    if read_off:
        ax.plot(0.63, 0.5, 'o', color='0.3', markersize=DOT, markerfacecolor='white')
        ax.text(0.645, 0.5, "open dot: mIoU read off the paper's figure", fontsize=8, va='center')


def place_names(ax: Axes, points: Sequence[Point], fontsize: float = 8.0) -> list[Bbox]:
    """Write each name beside its circle, where it covers no other name and no dot, and circles as little as can be.

    Args:
        ax: With its final limits and size.
        points: What to name.
        fontsize: Of the names, in points.

    Returns:
        The boxes of the names, in pixels.
    """
    canvas = ax.figure.canvas
    pixels = ax.figure.dpi / 72
    centres = [tuple(ax.transData.transform((point.ms[1], float(point.miou.value)))) for point in points]
    dots = [Bbox.from_bounds(x - DOT * pixels, y - DOT * pixels, 2 * DOT * pixels, 2 * DOT * pixels) for x, y in centres]
    circles = [(x, y, point.radius * pixels) for (x, y), point in zip(centres, points)]
    placed: dict[int, Bbox] = {}
    whiskers = [_whisker(ax, point) for point in points]
    # Where it is crowded first: those have the least choice.
    crowd = [sum(math.dist(a, b) < 60 * pixels for b in centres) for a in centres]
    for i in sorted(range(len(points)), key=lambda i: (-crowd[i], points[i].gflops)):
        text = ax.text(0, 0, points[i].name, fontsize=fontsize, transform=None, ha='left', va='bottom')
        extent = text.get_window_extent(canvas.get_renderer())  # type: ignore[attr-defined]
        others = [*placed.values(), *dots]
        best, spot = math.inf, None
        for badness, candidate in _candidates(centres[i], points[i].radius * pixels, extent.width, extent.height, pixels):
            inside = ax.bbox.x0 <= candidate.x0 and candidate.x1 <= ax.bbox.x1 and ax.bbox.y0 <= candidate.y0 and candidate.y1 <= ax.bbox.y1
            if not inside or any(candidate.padded(pixels).overlaps(other) for other in others):
                continue
            badness += sum(_covers(candidate, circle) for j, circle in enumerate(circles) if j != i)
            badness += ON_A_WHISKER * sum(candidate.overlaps(whisker) for whisker in whiskers)
            if badness < best:
                best, spot = badness, candidate
        if spot is None:  # more names than there is room for
            spot = extent.translated(centres[i][0], centres[i][1])
        placed[i] = spot
        text.set_position((spot.x0, spot.y0))
        _leader(ax, centres[i], points[i].radius * pixels, spot, pixels)
    return [placed[i] for i in range(len(points))]


def _candidates(centre: tuple[float, ...], radius: float, width: float, height: float, pixels: float) -> Iterator[tuple[float, Bbox]]:
    """Boxes around a circle, each with how bad it is: far away, or anywhere but to the right, above, below, to the left."""
    x, y = centre
    for gap in (2, 5, 9, 14, 20, 27, 35, 45, 60):
        reach = radius + gap * pixels
        for step in range(16):
            angle = 2 * math.pi * step / 16
            dx, dy = math.cos(angle), math.sin(angle)
            left = x + reach * dx + (dx - 1) / 2 * width
            bottom = y + reach * dy + (dy - 1) / 2 * height
            yield gap / 10 + (0.0 if step % 4 == 0 else 0.15) + 0.1 * (1 - dx), Bbox.from_bounds(left, bottom, width, height)


def _covers(box: Bbox, circle: tuple[float, float, float]) -> float:
    """Whether a name lies on another circle: worth going a little further for."""
    x, y, radius = circle
    nearest = min(max(x, box.x0), box.x1), min(max(y, box.y0), box.y1)
    return ON_A_CIRCLE if math.dist((x, y), nearest) < radius else 0.0


def _whisker(ax: Axes, point: Point) -> Bbox:
    q1, _, q3 = point.ms
    return Bbox(ax.transData.transform([(q1, float(point.miou.value)), (q3, float(point.miou.value))])).padded(1.0)


def _leader(ax: Axes, centre: tuple[float, ...], radius: float, box: Bbox, pixels: float) -> None:
    """A line from a name to its dot, where it is not beside it."""
    x, y = centre
    end = min(max(x, box.x0), box.x1), min(max(y, box.y0), box.y1)
    if math.dist(centre, end) > radius + 7 * pixels:
        ax.add_line(Line2D([x, end[0]], [y, end[1]], transform=None, color='0.4', linewidth=0.6))
