"""Draw the paper's Figure 1 with measured latencies: mIoU over latency, with FLOPs as the area of a circle."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import matplotlib

matplotlib.use('Agg')
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from mmdysample.catalogue.flops import segformer_multiplications
from mmdysample.paper.table import Cell
from mmdysample.pictures.log_axis import use_log_axis
from mmdysample.pictures.point_names import name_points

from .upsamplers import REFERENCE, Measured

# Area of a circle in square points per GFLOP. A dot marks the centre of each circle, because a circle may be invisibly small.
AREA = 50.0
LEGEND = (1, 5, 15)
DOT = 3.5
# If the ratio of the largest to the smallest latency exceeds this, the axis is logarithmic.
LINEAR_UP_TO = 8.0


@dataclass(frozen=True)
class Point:
    """A circle of the figure: first quartile, median and third quartile of the latency in ms, mIoU with its mark, and added GFLOPs."""

    name: str
    ms: tuple[float, float, float]
    miou: Cell
    gflops: float


def figure_points(rows: Sequence[Measured], miou: Callable[[str], Optional[Cell]]) -> list[Point]:
    """Return a circle for each measured upsampler that has a published mIoU; its FLOPs are counted, minus those of bilinear."""
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
        points: The circles, at least one.
        out: Path of the picture.
        latency_of: The timed operation, for the label of the axis.
        footnote: A line below the figure.
    """
    figure, (key, ax) = plt.subplots(2, figsize=(8.0, 5.8), dpi=160, layout='constrained', height_ratios=(1, 11))
    medians = [point.ms[1] for point in points]
    logarithmic = max(medians) > LINEAR_UP_TO * min(medians)
    if logarithmic:
        use_log_axis(ax)
    colours = plt.get_cmap('tab20').colors  # type: ignore[attr-defined]
    drawn: list[Line2D] = []
    for i, point in enumerate(sorted(points, key=lambda point: -point.gflops)):  # the largest first, so that small circles are on top
        q1, median, q3 = point.ms
        value, read_off = float(point.miou.value), point.miou.mark == 'FIG'
        colour = colours[2 * i % 20 + i // 10 % 2]
        drawn.extend(ax.plot(median, value, 'o', color=colour, markersize=math.sqrt(AREA * point.gflops), alpha=0.35, markeredgewidth=0))
        drawn.extend(ax.plot([q1, q3], [value, value], color=colour, linewidth=1))
        drawn.extend(ax.plot(median, value, 'o', color=colour, markersize=DOT, markerfacecolor='white' if read_off else colour))
    ax.margins(x=0.15, y=0.16)
    ax.grid(alpha=0.25, which='both' if logarithmic else 'major', linewidth=0.5)
    ax.set_axisbelow(True)
    ax.set_xlabel(f'latency of {latency_of} (ms{", logarithmic" if logarithmic else ""}); whiskers: quartiles')
    ax.set_ylabel('mIoU of SegFormer-B1 on ADE20K, published (%)')
    _draw_key(key, any(point.miou.mark == 'FIG' for point in points))
    figure.supxlabel(footnote, fontsize=7, color='0.35')
    centres = [(point.ms[1], float(point.miou.value)) for point in points]
    name_points(ax, [point.name for point in points], centres, drawn)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi='figure')
    plt.close(figure)


def _draw_key(ax: Axes, read_off: bool) -> None:
    """Draw the key: circles of three sizes and the meaning of an open dot. A matplotlib legend has no room for such large circles."""
    ax.set(xlim=(0, 1), ylim=(0, 1))
    ax.set_axis_off()
    ax.text(0, 0.5, 'areas: GFLOPs added to SegFormer-B1\nat 512x512, counted here', fontsize=8, va='center')
    for x, gflops in zip((0.34, 0.42, 0.51), LEGEND):
        ax.scatter(x, 0.5, s=AREA * gflops, color='0.5', alpha=0.35, linewidths=0)
        ax.annotate(f'{gflops}', (x, 0.5), (math.sqrt(AREA * gflops / math.pi) + 3, 0), textcoords='offset points', fontsize=8, va='center')
    if read_off:
        ax.plot(0.63, 0.5, 'o', color='0.3', markersize=DOT, markerfacecolor='white')
        ax.text(0.645, 0.5, "open dot: mIoU read off the paper's figure", fontsize=8, va='center')
