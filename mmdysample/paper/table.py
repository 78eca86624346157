"""The data types of a table of the paper: its rows, its published numbers and their sources.

Each published cell has a source and a mark. The mark says how certain the number is:

====  =================================================  =============
mark  meaning                                            printed
====  =================================================  =============
C2    two or more public sources print the same number   ``38.6``
1S    one public source                                  ``38.6``
FIG   read off the authors' figure                       ``~43.21``
ARITH printed nowhere; by arithmetic from public code    ``(+8.2K)``
====  =================================================  =============

A number without a public source is left out, and its cell prints empty.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Optional, Union

MARKS = {'C2': '{}', '1S': '{}', 'FIG': '~{}', 'ARITH': '({})'}
COSTS = {'parameters': r'\+?\d+(\.\d+)?[KM]?', 'flops': r'\+?\d+(\.\d+)?G?'}  # beside the metrics, as they are printed


@dataclass(frozen=True)
class Source:
    """Where numbers are published; without an address where none is known."""

    name: str
    url: str = ''


class Printed(float):
    """A number that remembers how many digits after the point it is printed with."""

    digits: int

    def __new__(cls, text: str) -> 'Printed':
        """Read a number such as ``'53.90'``."""
        number = super().__new__(cls, text)
        number.digits = len(text.partition('.')[2])
        return number

    def __reduce__(self) -> tuple[type['Printed'], tuple[str]]:
        return Printed, (f'{float(self):.{self.digits}f}',)


@dataclass(frozen=True)
class Cell:
    """A published value: a number, or parameters and FLOPs as they are printed (``'+32.7K'``, ``'15.9G'``)."""

    value: Union[Printed, str]
    mark: str
    source: Source

    def text(self, digits: Optional[int] = None) -> str:
        """The cell in a table, its mark as in ``MARKS``; a number as it is printed, or with at most that many digits after the point."""
        if isinstance(self.value, str):
            return MARKS[self.mark].format(self.value)
        kept = self.value.digits if digits is None else min(digits, self.value.digits)
        return MARKS[self.mark].format(f'{self.value:.{kept}f}')


@dataclass(frozen=True, eq=False)
class Group:
    """Cells of a row that share a mark and a source, by the names of their columns."""

    mark: str
    source: Source
    values: Mapping[str, Union[Printed, str]]


@dataclass(frozen=True, eq=False)
class Experiment:
    """What can be trained.

    Args:
        name: Its name in the table.
        configs: Paths below ``configs/``, by what ``--data`` takes: ``'shapes'``, and ``'coco'`` for the paper's data, whichever they are.
        baseline: The upsampler of the stock model.
    """

    name: str
    configs: Mapping[str, str]
    baseline: str


@dataclass(frozen=True, eq=False)
class Row:
    """A row of a table.

    Args:
        name: Unique in the table, and fit for the name of a folder.
        experiment: What to train, or None where this repository has no model for it.
        upsampler: What ``tools/train.py --upsampler`` takes, or None where there is no such upsampler here.
        published: Groups of cells; where two hold the same cell, the first is the one to print.
        note: The key of a footnote of the table.
    """

    name: str
    experiment: Optional[Experiment]
    upsampler: Optional[str]
    published: tuple[Group, ...]
    note: Optional[str]

    def cell(self, metric: str) -> Optional[Cell]:
        """What is published for a metric, ``'parameters'`` or ``'flops'``; None where nothing is public."""
        for group in self.published:
            if metric in group.values:
                return Cell(group.values[metric], group.mark, group.source)
        return None

    def text(self, metric: str) -> str:
        """The same as it is printed; empty where nothing is public."""
        cell = self.cell(metric)
        return cell.text() if cell else ''


@dataclass(frozen=True, eq=False)
class Table:
    """A table of the paper.

    Args:
        name: One of ``TABLES``.
        title: A line above it.
        about: The conventions of its numbers, to print below it.
        metrics: Its columns, beside parameters and FLOPs.
        main: The metric that stands for all in a picture.
        less_is_better: Metrics of which less is better.
        best: Whether its metrics are those of the best evaluation of a training, or of the last.
        image: Height and width of the image that FLOPs are counted for, or None where they are not.
        seeds: How many trainings a row gets.
        miniature: What to know of the table on Shapes, to print below it.
        sources: By short name.
        experiments: By name.
        notes: Footnotes by key.
        rows: In the order to print.
    """

    name: str
    title: str
    about: str
    metrics: tuple[str, ...]
    main: str
    less_is_better: tuple[str, ...]
    best: bool
    image: Optional[tuple[int, int]]
    seeds: int
    miniature: str
    sources: Mapping[str, Source]
    experiments: Mapping[str, Experiment]
    notes: Mapping[str, str]
    rows: tuple[Row, ...]

    def row(self, name: str) -> Row:
        """The row of that name.

        Raises:
            ValueError: There is none.
        """
        for row in self.rows:
            if row.name == name:
                return row
        raise ValueError(f'table {self.name} has no row {name!r}; there are {", ".join(row.name for row in self.rows)}')

    def digits(self, metric: str) -> int:
        """How many digits after the point the published numbers of a metric have, at most; one if none is published."""
        values = (group.values.get(metric) for row in self.rows for group in row.published)
        return max((value.digits for value in values if isinstance(value, Printed)), default=1)
