"""The data types of a table of the paper: its rows, its published numbers and their sources.

Each published cell has a source and a mark. The mark says how certain the number is:

=====  =================================================  =============
mark   meaning                                            printed
=====  =================================================  =============
C2     two or more public sources print the same number   ``38.6``
1S     one public source                                  ``38.6``
FIG    read off the authors' figure                       ``~43.21``
ARITH  printed nowhere; by arithmetic from public code    ``(+8.2K)``
NOTE   quoted in a public note on the paper               ``"53.91"``
=====  =================================================  =============

A number without a public source is left out, and its cell prints empty.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Optional, Union

MARKS = {'C2': '{}', '1S': '{}', 'FIG': '~{}', 'ARITH': '({})', 'NOTE': '"{}"'}
# The two columns that every table has beside its metrics, and how their cells are printed.
COSTS = {'parameters': r'\+?\d+(\.\d+)?[KM]?', 'flops': r'\+?\d+(\.\d+)?G?'}


@dataclass(frozen=True)
class Source:
    """Where numbers are published: a name and an address, which is empty if none is known."""

    name: str
    url: str = ''


class Printed(float):
    """A number that keeps the count of digits after its decimal point, so that it prints as published."""

    digits: int

    def __new__(cls, text: str) -> 'Printed':
        """Parse a number such as ``'53.90'``."""
        number = super().__new__(cls, text)
        number.digits = len(text.partition('.')[2])
        return number

    def __reduce__(self) -> tuple[type['Printed'], tuple[str]]:
        return Printed, (f'{float(self):.{self.digits}f}',)


@dataclass(frozen=True)
class Cell:
    """A published value: a number, or the text of parameters or FLOPs as printed (``'+32.7K'``, ``'15.9G'``)."""

    value: Union[Printed, str]
    mark: str
    source: Source

    def text(self, digits: Optional[int] = None) -> str:
        """Return the text of the cell with its mark as in ``MARKS``.

        Args:
            digits: The most digits after the decimal point; by default, as many as published.
        """
        if isinstance(self.value, str):
            return MARKS[self.mark].format(self.value)
        kept = self.value.digits if digits is None else min(digits, self.value.digits)
        return MARKS[self.mark].format(f'{self.value:.{kept}f}')


@dataclass(frozen=True, eq=False)
class Group:
    """The cells of a row that share a mark and a source, by column."""

    mark: str
    source: Source
    values: Mapping[str, Union[Printed, str]]


@dataclass(frozen=True, eq=False)
class Experiment:
    """A model that can be trained with any upsampler.

    Args:
        name: Its name in the table.
        configs: Paths below ``configs/``, by the value of ``--data``: ``'shapes'``, ``'nuclei'``, or ``'coco'`` for the paper's dataset
            (COCO, ADE20K or NYU).
        baseline: The interpolation that the stock model uses.
    """

    name: str
    configs: Mapping[str, str]
    baseline: str


@dataclass(frozen=True, eq=False)
class Row:
    """A row of a table.

    Args:
        name: Unique in the table, and valid as the name of a folder.
        experiment: The model to train, or None if this repository has no such model.
        upsampler: The value for ``tools/train.py --upsampler``, or None if this package has no such upsampler.
        published: Groups of cells. If two groups hold the same cell, the first is printed.
        note: The key of the footnote in ``Table.notes``, if the row has one.
    """

    name: str
    experiment: Optional[Experiment]
    upsampler: Optional[str]
    published: tuple[Group, ...]
    note: Optional[str]

    def cell(self, metric: str) -> Optional[Cell]:
        """Return the published cell of a metric, of ``'parameters'`` or of ``'flops'``; None if no source publishes it."""
        for group in self.published:
            if metric in group.values:
                return Cell(group.values[metric], group.mark, group.source)
        return None

    def text(self, metric: str) -> str:
        """Return the text of the published cell, or an empty string if no source publishes it."""
        cell = self.cell(metric)
        return cell.text() if cell else ''


@dataclass(frozen=True, eq=False)
class Table:
    """A table of the paper.

    Args:
        name: One of ``TABLES``.
        title: The line printed above the table.
        about: The conventions of its numbers, printed below the table.
        metrics: The columns, without parameters and FLOPs.
        main: The metric that the picture of the table shows.
        less_is_better: The metrics of which a smaller value is better.
        best: True if the metrics are those of the best checkpoint of a training, False if of the last.
        image: Height and width in pixels of the image for which FLOPs are counted; None if they are not counted.
        seeds: The number of trainings per row, each with another seed.
        miniature: The note printed below the table when its rows are trained on Shapes.
        sources: Sources by short name.
        experiments: Experiments by name.
        notes: Footnotes by key.
        rows: Rows in the order of printing.
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
        """Return a row by its name.

        Raises:
            ValueError: The table has no row of that name.
        """
        for row in self.rows:
            if row.name == name:
                return row
        raise ValueError(f'table {self.name} has no row {name!r}; there are {", ".join(row.name for row in self.rows)}')

    def digits(self, metric: str) -> int:
        """Return the largest number of digits after the decimal point among the published numbers of a metric; 1 if there are none."""
        values = (group.values.get(metric) for row in self.rows for group in row.published)
        return max((value.digits for value in values if isinstance(value, Printed)), default=1)
