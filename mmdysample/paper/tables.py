"""The tables of the paper as data: what is published, by whom, and which experiment here repeats it.

One YAML file a table, in ``mmdysample/paper/``. Each published cell has a source and a mark, which says how sure it is:

====  =================================================  =============
mark  meaning                                            printed
====  =================================================  =============
C2    two or more public sources print the same number   ``38.6``
1S    one public source                                  ``38.6``
FIG   read off the authors' figure                       ``~43.21``
ARITH printed nowhere; by arithmetic from public code    ``(+8.2K)``
====  =================================================  =============

What has no public source is not there, and prints empty.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Optional, Union

import yaml

FOLDER = Path(__file__).parent
TABLES = (
    'faster_rcnn',
    'mask_rcnn',
    'panoptic',
    'segformer',
    'upernet',
    'maskformer',
    'depth',
    'ablation',
    'complexity',
    'boundary',
)
OPTIONAL = ('less_is_better', 'best', 'image', 'seeds', 'miniature', 'sources', 'experiments', 'notes')
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


@lru_cache
def read_table(name: str) -> Table:
    """Read a table.

    Raises:
        ValueError: There is no such table, or its file is not as it should be.
    """
    if name not in TABLES:
        raise ValueError(f'there is no table {name!r}; there are {", ".join(TABLES)}')
    return parse_table(name, (FOLDER / f'{name}.yaml').read_text(encoding='utf-8'))


def parse_table(name: str, text: str) -> Table:
    """Read a table from YAML.

    Raises:
        ValueError: A key is missing, unknown or of the wrong kind, a name is used twice, or a cell has no known mark, source or column.
    """
    try:
        data = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f'table {name} is not YAML: {" ".join(str(error).split())}') from None
    at = f'table {name}'
    read = _Fields(at, data, 'title', 'about', 'metrics', 'main', 'rows', optional=OPTIONAL)
    metrics = read.texts('metrics')
    main, less = read.text('main'), read.texts('less_is_better')
    for metric in (main, *less):
        if metric not in metrics:
            raise ValueError(f'{at}: {metric!r} is not among the metrics {", ".join(metrics)}')
    sources = {key: _source(f'{at}, source {key}', value) for key, value in read.mapping('sources').items()}
    experiments = {key: _experiment(f'{at}, experiment {key}', key, value) for key, value in read.mapping('experiments').items()}
    notes = {key: _line(f'{at}, note {key}', value) for key, value in read.mapping('notes').items()}
    rows = tuple(_row(at, value, metrics, sources, experiments, notes) for value in read.sequence('rows'))
    names = [row.name for row in rows]
    for row_name in names:
        if names.count(row_name) > 1:
            raise ValueError(f'{at} has two rows {row_name!r}; name one of them otherwise')
    best, seeds = data.get('best', False), data.get('seeds', 1)
    if not isinstance(best, bool) or type(seeds) is not int or seeds < 1:
        raise ValueError(f'{at}: best is true or false and seeds a positive number, got {best!r} and {seeds!r}')
    image, miniature = _size(at, data.get('image')), read.text('miniature') if 'miniature' in data else ''
    return Table(
        name,
        read.text('title'),
        read.text('about'),
        metrics,
        main,
        less,
        best,
        image,
        seeds,
        miniature,
        sources,
        experiments,
        notes,
        rows,
    )


def _size(at: str, text: Any) -> Optional[tuple[int, int]]:
    if text is None:
        return None
    if not isinstance(text, str) or not re.fullmatch(r'\d+x\d+', text):
        raise ValueError(f'{at}: image is height x width, as in 512x512, got {text!r}')
    height, width = map(int, text.split('x'))
    return height, width


def _source(at: str, data: Any) -> Source:
    read = _Fields(at, data, 'name', optional=('url',))
    return Source(read.text('name'), read.text('url') if 'url' in data else '')


def _experiment(at: str, name: str, data: Any) -> Experiment:
    configs = {key: value for key, value in data.items() if key != 'baseline'} if isinstance(data, dict) else {}
    read = _Fields(at, data, 'baseline', optional=tuple(configs))
    if not configs:
        raise ValueError(f'{at} has no config; give one, as in shapes: shapes/faster_rcnn_dysample_shapes.py')
    return Experiment(name, {key: read.text(key) for key in configs}, read.text('baseline'))


def _row(
    at: str,
    data: Any,
    metrics: tuple[str, ...],
    sources: Mapping[str, Source],
    experiments: Mapping[str, Experiment],
    notes: Mapping[str, str],
) -> Row:
    read = _Fields(f'{at}, a row', data, 'name', 'experiment', 'upsampler', optional=('published', 'note'))
    name = read.text('name')
    at = f'{at}, row {name}'
    if not re.fullmatch(r'\w[\w.+=-]*', name):
        raise ValueError(f'{at}: a name may hold letters, digits and _.+=-')
    experiment, upsampler, note = (None if data.get(key) is None else read.text(key) for key in ('experiment', 'upsampler', 'note'))
    if experiment is not None and experiment not in experiments:
        raise ValueError(f'{at}: there is no experiment {experiment!r}; there are {", ".join(experiments) or "none"}')
    if note is not None and note not in notes:
        raise ValueError(f'{at}: there is no note {note!r}; there are {", ".join(notes) or "none"}')
    if experiment is None and note is None:
        raise ValueError(f'{at} has no experiment; say why in a note')
    if experiment is not None and upsampler is None:
        raise ValueError(f'{at} has an experiment, and no upsampler for it; name one')
    published = tuple(_group(at, group, metrics, sources) for group in read.sequence('published'))
    return Row(name, experiments[experiment] if experiment is not None else None, upsampler, published, note)


def _group(at: str, data: Any, metrics: tuple[str, ...], sources: Mapping[str, Source]) -> Group:
    columns = (*COSTS, *metrics)
    read = _Fields(f'{at}, published', data, 'mark', 'source', optional=columns)
    mark, source = read.text('mark'), read.text('source')
    if mark not in MARKS:
        raise ValueError(f'{at}: the mark {mark!r} is none of {", ".join(MARKS)}; leave out what has no public source')
    if source not in sources:
        raise ValueError(f'{at}: there is no source {source!r}; there are {", ".join(sources) or "none"}')
    values = {key: value for key, value in data.items() if key in columns}
    if not values:
        raise ValueError(f'{at}: a group of published cells holds none')
    for key, value in values.items():
        if key in COSTS:
            if not isinstance(value, str) or not re.fullmatch(COSTS[key], value):
                raise ValueError(f"{at}: {key} is a text such as '+32.7K' or '15.9G', got {value!r}")
        elif not isinstance(value, Printed):
            raise ValueError(f'{at}: {key} is a number with a point, as it is printed, got {value!r}')
    return Group(mark, sources[source], values)


def _line(at: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f'{at} is a text, got {value!r}')
    return ' '.join(value.split())


class _Fields:
    """Reads the keys of a mapping, and says in one line what is wrong with it."""

    def __init__(self, at: str, data: Any, *required: str, optional: tuple[str, ...] = ()) -> None:
        if not isinstance(data, dict):
            raise ValueError(f'{at} is a mapping with {", ".join(required)}, got {data!r}')
        missing = [key for key in required if key not in data]
        unknown = [str(key) for key in data if key not in (*required, *optional)]
        if missing or unknown:
            words = [f'lacks {", ".join(missing)}'] if missing else []
            words += [f'does not know {", ".join(unknown)} (it knows {", ".join((*required, *optional))})'] if unknown else []
            raise ValueError(f'{at} {" and ".join(words)}')
        self.at, self.data = at, data

    def text(self, key: str) -> str:
        return _line(f'{self.at}: {key}', self.data.get(key))

    def texts(self, key: str) -> tuple[str, ...]:
        return tuple(_line(f'{self.at}: {key}', value) for value in self.sequence(key))

    def sequence(self, key: str) -> list[Any]:
        return self._of(key, list, 'a list')

    def mapping(self, key: str) -> dict[str, Any]:
        return self._of(key, dict, 'a mapping')

    def _of(self, key: str, kind: Callable[[], Any], word: str) -> Any:
        value = self.data.get(key, kind())
        if type(value) is not kind:
            raise ValueError(f'{self.at}: {key} is {word}, got {value!r}')
        return value


class _Loader(yaml.SafeLoader):
    """YAML that keeps the digits of a number, and refuses a key that is written twice in place of keeping the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping = super().construct_mapping(node, deep=deep)
        if len(mapping) < len(node.value):
            raise ValueError(f'a key is written twice{node.start_mark}')
        return mapping

    def construct_number(self, node: yaml.ScalarNode) -> Printed:
        text = str(node.value)
        if not re.fullmatch(r'\d+\.\d+', text):
            raise ValueError(f'a number is written as 37.5 is, got {text}{node.start_mark}')
        return Printed(text)


_Loader.add_constructor('tag:yaml.org,2002:float', _Loader.construct_number)
