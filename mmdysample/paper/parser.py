"""Parse a table of the paper from the text of its YAML file."""

import re
from collections.abc import Mapping
from typing import Any, Optional

import yaml

from .strict_yaml import Fields, Loader, line
from .table import COSTS, MARKS, Experiment, Group, Printed, Row, Source, Table

OPTIONAL = ('less_is_better', 'best', 'image', 'seeds', 'miniature', 'sources', 'experiments', 'notes')


def parse_table(name: str, text: str) -> Table:
    """Parse a table from YAML.

    Args:
        name: Name of the table, for the messages.
        text: YAML with the keys of :class:`~mmdysample.paper.table.Table`.

    Raises:
        ValueError: A key is missing, unknown or of the wrong type, a name occurs twice, or a cell has no known mark, source or column.
    """
    try:
        data = yaml.load(text, Loader=Loader)
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f'table {name} is not YAML: {" ".join(str(error).split())}') from None
    at = f'table {name}'
    read = Fields(at, data, 'title', 'about', 'metrics', 'main', 'rows', optional=OPTIONAL)
    metrics = read.texts('metrics')
    main, less = read.text('main'), read.texts('less_is_better')
    for metric in (main, *less):
        if metric not in metrics:
            raise ValueError(f'{at}: {metric!r} is not among the metrics {", ".join(metrics)}')
    sources = {key: _source(f'{at}, source {key}', value) for key, value in read.mapping('sources').items()}
    experiments = {key: _experiment(f'{at}, experiment {key}', key, value) for key, value in read.mapping('experiments').items()}
    notes = {key: line(f'{at}, note {key}', value) for key, value in read.mapping('notes').items()}
    rows = tuple(_row(at, value, metrics, sources, experiments, notes) for value in read.sequence('rows'))
    names = [row.name for row in rows]
    for row_name in names:
        if names.count(row_name) > 1:
            raise ValueError(f'{at} has two rows {row_name!r}; rename one of them')
    best, seeds = data.get('best', False), data.get('seeds', 1)
    if not isinstance(best, bool) or type(seeds) is not int or seeds < 1:
        raise ValueError(f'{at}: best must be true or false and seeds a positive integer, got {best!r} and {seeds!r}')
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
        raise ValueError(f'{at}: image must be height x width, as in 512x512, got {text!r}')
    height, width = map(int, text.split('x'))
    return height, width


def _source(at: str, data: Any) -> Source:
    read = Fields(at, data, 'name', optional=('url',))
    return Source(read.text('name'), read.text('url') if 'url' in data else '')


def _experiment(at: str, name: str, data: Any) -> Experiment:
    configs = {key: value for key, value in data.items() if key != 'baseline'} if isinstance(data, dict) else {}
    read = Fields(at, data, 'baseline', optional=tuple(configs))
    if not configs:
        raise ValueError(f'{at} has no config; add one, as in shapes: shapes/faster_rcnn_dysample_shapes.py')
    return Experiment(name, {key: read.text(key) for key in configs}, read.text('baseline'))


def _row(
    at: str,
    data: Any,
    metrics: tuple[str, ...],
    sources: Mapping[str, Source],
    experiments: Mapping[str, Experiment],
    notes: Mapping[str, str],
) -> Row:
    read = Fields(f'{at}, a row', data, 'name', 'experiment', 'upsampler', optional=('published', 'note'))
    name = read.text('name')
    at = f'{at}, row {name}'
    if not re.fullmatch(r'\w[\w.+=-]*', name):
        raise ValueError(f'{at}: a name may hold only letters, digits and _.+=-')
    experiment, upsampler, note = (None if data.get(key) is None else read.text(key) for key in ('experiment', 'upsampler', 'note'))
    if experiment is not None and experiment not in experiments:
        raise ValueError(f'{at}: there is no experiment {experiment!r}; there are {", ".join(experiments) or "none"}')
    if note is not None and note not in notes:
        raise ValueError(f'{at}: there is no note {note!r}; there are {", ".join(notes) or "none"}')
    if experiment is None and note is None:
        raise ValueError(f'{at} has no experiment; say why in a note')
    if experiment is not None and upsampler is None:
        raise ValueError(f'{at} has an experiment but no upsampler; name one')
    published = tuple(_group(at, group, metrics, sources) for group in read.sequence('published'))
    return Row(name, experiments[experiment] if experiment is not None else None, upsampler, published, note)


def _group(at: str, data: Any, metrics: tuple[str, ...], sources: Mapping[str, Source]) -> Group:
    columns = (*COSTS, *metrics)
    read = Fields(f'{at}, published', data, 'mark', 'source', optional=columns)
    mark, source = read.text('mark'), read.text('source')
    if mark not in MARKS:
        raise ValueError(f'{at}: the mark {mark!r} is none of {", ".join(MARKS)}; leave out a number without a public source')
    if source not in sources:
        raise ValueError(f'{at}: there is no source {source!r}; there are {", ".join(sources) or "none"}')
    values = {key: value for key, value in data.items() if key in columns}
    if not values:
        raise ValueError(f'{at}: a group under published holds no cell')
    for key, value in values.items():
        if key in COSTS:
            if not isinstance(value, str) or not re.fullmatch(COSTS[key], value):
                raise ValueError(f"{at}: {key} must be a text such as '+32.7K' or '15.9G', got {value!r}")
        elif not isinstance(value, Printed):
            raise ValueError(f'{at}: {key} must be a number with a decimal point, as published, got {value!r}')
    return Group(mark, sources[source], values)
