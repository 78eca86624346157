"""Write ``model-index.yml`` and its metafiles, which MIM reads, from the paper's tables and the configs."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from mmengine.config import Config

from mmdysample.catalogue.model_size import count_model, read_config
from mmdysample.engine.errors import exit_on_error
from mmdysample.paper.reader import read_table
from mmdysample.paper.table import Row, Table
from mmdysample.terminal.progress import progress

INDEX = 'model-index.yml'
HEAD = """\
# Written by tools/metafiles.py from mmdysample/paper/{table}.yaml and the configs: change those, and call it again.
# There are no weights here. All metrics are published by others, as "Published By" says of each; none was measured with this code.
# Parameters are counted in the models of this repository.
"""
INDEX_HEAD = """\
# Written by tools/metafiles.py. There are no weights here, and all metrics are published by others.
"""


class Collection(NamedTuple):
    """The entries that all models of a table share."""

    name: str
    dataset: str
    task: str
    gpus: int = 1  # number of GPUs of the recipe; the batch of the config is for one of them


COLLECTIONS = {
    'faster_rcnn': Collection('Faster R-CNN', 'COCO', 'Object Detection'),
    'mask_rcnn': Collection('Mask R-CNN', 'COCO', 'Object Detection'),
    'panoptic': Collection('Panoptic FPN', 'COCO', 'Panoptic Segmentation'),
    'segformer': Collection('SegFormer', 'ADE20K', 'Semantic Segmentation'),
    'upernet': Collection('UPerNet', 'ADE20K', 'Semantic Segmentation'),
    'maskformer': Collection('MaskFormer', 'ADE20K', 'Semantic Segmentation'),
    'depth': Collection('Depth with Swin-T', 'NYU Depth V2', 'Monocular Depth Estimation', gpus=2),
}


def metafiles() -> dict[str, str]:
    """Return the texts of all files, by path in the repository.

    Raises:
        ImportError: mmdet or mmseg is not installed.
    """
    files = {}
    for name in progress(list(COLLECTIONS), 'counting the parameters of models'):
        table = read_table(name)
        content = {'Collections': [_collection(table)], 'Models': list(_models(table))}
        files[f'configs/metafiles/{name}.yml'] = HEAD.format(table=name) + _dump(content)
    files[INDEX] = INDEX_HEAD + _dump({'Import': list(files)})
    return files


def _dump(content: dict[str, Any]) -> str:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=140)


def _collection(table: Table) -> dict[str, Any]:
    collection = COLLECTIONS[table.name]
    return {
        'Name': collection.name,
        'Metadata': {'Training Data': collection.dataset, 'Metrics': 'published by others, not measured here; there are no weights here'},
        'Paper': {'URL': 'https://arxiv.org/abs/2308.15085', 'Title': 'Learning to Upsample by Learning to Sample'},
    }


def _models(table: Table) -> Iterator[dict[str, Any]]:
    """Yield an entry for each row of a table whose model this repository can build."""
    collection = COLLECTIONS[table.name]
    for row in table.rows:
        if row.experiment is None or row.upsampler is None:
            continue
        config, results = row.experiment.configs['coco'], _results(table, row)
        # MIM shows all of the metadata, but only the results that it knows, so the metadata name the publishers too.
        publishers = '; '.join(dict.fromkeys(result['Published By'] for result in results))
        model = {
            'Name': f'{Path(config).stem.removesuffix("_dysample")}_{row.upsampler}',
            'In Collection': collection.name,
            'Config': f'configs/{config}',
            'Metadata': {
                'Upsampler': row.upsampler,
                'Parameters': count_model(config, row.upsampler),
                **_recipe(read_config(config), collection.gpus),
                'Metrics': f'published by others ({publishers}), not measured here' if results else 'none is published',
            },
        }
        yield {**model, 'Results': results} if results else model


def _recipe(config: Config, gpus: int) -> dict[str, int]:
    """Return the length of a config's training and its batch size over all GPUs."""
    loop = config.train_cfg
    length = {'Epochs': loop.max_epochs} if 'max_epochs' in loop else {'Iterations': loop.max_iters}
    batch = config.get('auto_scale_lr', {}).get('base_batch_size', gpus * config.train_dataloader.batch_size)
    return {**length, 'Batch Size': batch}


def _results(table: Table, row: Row) -> list[dict[str, Any]]:
    """Return the published results of a row, an entry for each task and source."""
    collection = COLLECTIONS[table.name]
    results: dict[tuple[str, str], dict[str, Any]] = {}
    for metric in table.metrics:
        cell = row.cell(metric)
        if cell is None:
            continue
        task = 'Instance Segmentation' if metric.startswith('mask ') else collection.task
        new: dict[str, Any] = {'Task': task, 'Dataset': collection.dataset, 'Metrics': {}, 'Published By': cell.source.name}
        entry = results.setdefault((task, cell.source.name), new)
        name = f'box {metric}' if metric.startswith('AP') else metric
        entry['Metrics'][name] = float(cell.value)
    return list(results.values())


def main(root: Path) -> None:
    """Run the command: write the files and print their paths."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', type=Path, default=root, help='repository for model-index.yml and configs/metafiles/ (default: this one)')
    args = parser.parse_args()
    with exit_on_error():
        for name, text in metafiles().items():
            path = args.out / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding='utf-8')
            print(path)
