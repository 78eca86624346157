"""Draw the scores of the rows of a table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from matplotlib.figure import Figure

from mmdysample.paper.table import Table
from mmdysample.pictures.log_axis import use_log_axis
from mmdysample.pictures.point_names import name_points

from .measured import Measured, are_times_comparable, measured, seconds_per_step
from .plan import Planned, all_trainings

PUBLISHED, OURS = '#888888', '#c0392b'


def save_picture(table: Table, plans: Sequence[Planned], data: str, path: Path) -> None:
    """Save the picture of a table; write no file if there is no number to show."""
    figure = draw(table, plans, data)
    if figure is not None:
        figure.savefig(path, dpi=150)


def draw(table: Table, plans: Sequence[Planned], data: str) -> Optional[Figure]:
    """Draw the main metric of each row, published and measured; with several seeds, also over the time of a training step.

    Returns:
        The figure; None if there is neither a published nor a measured number.
    """
    published = {one.row.name: float(cell.value) for one in plans if data != 'shapes' and (cell := one.row.cell(table.main))}
    ours = {one.row.name: found for one in plans if (found := measured(table.main, one.trainings))}
    comparable = are_times_comparable(all_trainings(plans))
    costs = {one.row.name: cost.mean for one in plans if comparable and (cost := seconds_per_step(one.trainings))}
    names = [one.row.name for one in plans if one.row.name in published or one.row.name in ours]
    if not names:
        return None
    over_cost = any(found.count > 1 for found in ours.values()) and len(costs) > 1
    figure = Figure(figsize=(11 if over_cost else 7, 1.2 + 0.28 * len(names)), layout='constrained')
    axes = figure.subplots(1, 2 if over_cost else 1, squeeze=False)[0]
    _draw_scores(axes[0], table, names, published, ours)
    figure.suptitle(f'{table.title}{": its miniature on Shapes" if data == "shapes" and "Shapes" not in table.title else ""}', fontsize=11)
    if over_cost:  # drawn last, because the names of its points need the final size
        _draw_over_cost(axes[1], table, ours, costs)
    return figure


def _draw_scores(ax, table: Table, names: list[str], published: dict[str, float], ours: dict[str, Measured]) -> None:  # type: ignore[no-untyped-def]
    for y, name in enumerate(names):
        if name in published:
            ax.plot(published[name], y, 'o', mfc='none', color=PUBLISHED, label='published')
        if name in ours:
            found = ours[name]
            ax.errorbar(found.mean, y, xerr=found.deviation, fmt='o', color=OURS, capsize=3, label='ours')
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.set_xlabel(f'{table.main}{" (less is better)" if table.main in table.less_is_better else ""}')
    ax.grid(axis='x', alpha=0.3)
    handles, labels = ax.get_legend_handles_labels()
    unique = dict(zip(labels, handles))
    ax.legend(unique.values(), unique.keys(), loc='best', fontsize=8)


def _draw_over_cost(ax, table: Table, ours: dict[str, Measured], costs: dict[str, float]) -> None:  # type: ignore[no-untyped-def]
    points = {name: (1000 * costs[name], ours[name].mean) for name in ours if name in costs}
    drawn = []  # names avoid the markers only: there is no room to avoid the whiskers as well
    for name, (cost, mean) in points.items():
        drawn.append(ax.errorbar(cost, mean, yerr=ours[name].deviation, fmt='o', color=OURS, capsize=3).lines[0])
    use_log_axis(ax)
    ax.margins(x=0.15)
    ax.set_xlabel('time of a training step (ms, measured in these runs)')
    ax.set_ylabel(table.main)
    ax.grid(alpha=0.3)
    name_points(ax, list(points), list(points.values()), drawn)
