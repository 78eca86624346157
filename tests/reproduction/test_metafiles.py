"""The index of models, and the counts in it."""

import re

import pytest
import yaml
from conftest import ROOT

from mmdysample.catalogue.model_size import count_model
from mmdysample.paper.reader import read_table
from mmdysample.reproduction.metafiles import COLLECTIONS, INDEX, metafiles


@pytest.mark.usefixtures('_frameworks')
def test_the_committed_files_are_what_the_command_writes():
    """After a change of a table or of a model: python tools/metafiles.py."""
    written = metafiles()
    assert {f'configs/metafiles/{path.name}' for path in (ROOT / 'configs/metafiles').iterdir()} | {INDEX} == set(written)
    for name, text in written.items():
        assert (ROOT / name).read_text(encoding='utf-8') == text, name


def models():
    index = yaml.safe_load((ROOT / INDEX).read_text(encoding='utf-8'))
    return [model for name in index['Import'] for model in yaml.safe_load((ROOT / name).read_text(encoding='utf-8'))['Models']]


def test_what_an_index_must_have():
    names = [model['Name'].lower() for model in models()]  # MIM reads them in small letters
    assert len(names) == len(set(names)) > 80
    collections = {collection.name for collection in COLLECTIONS.values()}
    for model in models():
        assert (ROOT / model['Config']).is_file()
        assert model['In Collection'] in collections
        assert 'Weights' not in model
        assert model['Metadata']['Metrics'].startswith('published by others (' if 'Results' in model else 'none is published')
        for result in model.get('Results', ()):
            assert all(result[key] for key in ('Task', 'Dataset', 'Metrics', 'Published By'))


def test_one_model_by_hand():
    (model,) = (model for model in models() if model['Name'] == 'mask_rcnn_DySample+')
    assert model['Config'] == 'configs/mask_rcnn_dysample.py'
    assert model['Metadata']['Parameters'] == 49705264 + 4 * 16416
    assert (model['Metadata']['Epochs'], model['Metadata']['Batch Size']) == (12, 16)
    boxes, masks = model['Results']
    assert (boxes['Task'], boxes['Metrics']['box AP'], boxes['Metrics']['box APL']) == ('Object Detection', 39.6, 50.8)
    assert (masks['Task'], masks['Metrics']['mask AP'], masks['Metrics']['mask APL']) == ('Instance Segmentation', 35.7, 51.5)
    assert masks['Published By'] == 'tiny-smart/dysample, README'


@pytest.mark.usefixtures('_frameworks')
@pytest.mark.parametrize('name', COLLECTIONS)
def test_published_parameters_are_counted_or_explained(name):
    """To the printed precision, rounded or cut; where it is neither, the row has a note."""
    compared = 0
    for row in read_table(name).rows:
        cell = row.cell('parameters')
        if cell is None or row.experiment is None or row.note:
            continue
        config = row.experiment.configs['coco']
        count = count_model(config, row.upsampler)
        if cell.value.startswith('+'):
            count -= count_model(config, row.experiment.baseline)
        number, unit = re.fullmatch(r'\+?([\d.]+)([KM]?)', cell.value).groups()
        step = 10.0 ** -len(number.partition('.')[2])
        assert -0.5 * step <= count / {'': 1, 'K': 1e3, 'M': 1e6}[unit] - float(number) < step, (row.name, count, cell.value)
        compared += 1
    assert compared or name == 'mask_rcnn'
