"""Read the tables of the paper, one YAML file each, from the folder of this file."""

from functools import lru_cache
from pathlib import Path

from .parser import parse_table
from .table import Table

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
    'nuclei_semantic',
    'nuclei_coarse',
    'nuclei_instances',
)


@lru_cache
def read_table(name: str) -> Table:
    """Read a table by its name, one of ``TABLES``.

    Raises:
        ValueError: There is no such table, or its file has a mistake.
    """
    if name not in TABLES:
        raise ValueError(f'there is no table {name!r}; there are {", ".join(TABLES)}')
    return parse_table(name, (FOLDER / f'{name}.yaml').read_text(encoding='utf-8'))
