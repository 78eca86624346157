import json
import logging
import os
import subprocess
from datetime import datetime
from pathlib import Path

import pytest
import torch
from mmengine.dataset import BaseDataset, ClassBalancedDataset, ConcatDataset, RepeatDataset
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.utils.data import DataLoader, Subset

from mmdysample.datasets.image_files import forget
from mmdysample.engine.training import description
from mmdysample.engine.training.record import describe, differences, write_record


class Model(BaseModel):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return {}


class Metric(BaseMetric):
    def process(self, data_batch, data_samples):
        pass

    def compute_metrics(self, results):
        return {}


class Images(BaseDataset):
    def get_cat_ids(self, idx):
        return [0]


class Plain(torch.utils.data.Dataset):
    dataset = 'its name'

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return index


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Two data sets: one with an annotation file, the other with a folder of label maps."""
    monkeypatch.setattr(logging, 'raiseExceptions', False)  # the logs of runners outlive the streams of a test
    root = tmp_path / 'secret/data'
    for split, count in (('train', 4), ('val', 2)):
        for kind in ('images', 'labels'):
            (root / kind / split).mkdir(parents=True)
            for i in range(count):
                (root / kind / split / f'{i}.png').write_bytes(b'x' * (i + 1))
        entries = [{'img_path': f'{i}.png', 'seg_map_path': f'{i}.png'} for i in range(count)]
        (root / f'{split}.json').write_text(json.dumps({'metainfo': {}, 'data_list': entries}))
    return root


def images(root, split='train'):
    return Images(str(root / f'{split}.json'), data_root=str(root), data_prefix={'img_path': f'images/{split}'}, serialize_data=False)


def maps(root, split='train'):
    prefixes = {'img_path': f'images/{split}', 'seg_map_path': f'labels/{split}/'}
    return Images(f'{split}.json', data_root=str(root), data_prefix=prefixes, serialize_data=False)


def make(root, train=images, val=images, test=False, load_from=None, work='work'):
    """A runner whose loops are built, as the tools have it before they begin."""
    loaders = {split: None if kind is None else DataLoader(kind(root, split)) for split, kind in (('train', train), ('val', val))}
    options = dict(test_dataloader=loaders['val'], test_cfg={}, test_evaluator=Evaluator(Metric())) if test else {}
    if not test:
        options = dict(
            train_dataloader=loaders['train'], train_cfg=dict(by_epoch=True, max_epochs=1), optim_wrapper=dict(optimizer=dict(type='SGD'))
        )
        options |= dict(val_dataloader=loaders['val'], val_cfg={}, val_evaluator=Evaluator(Metric())) if val else {}
    runner = Runner(
        Model(),
        str(root.parent / work),
        load_from=load_from and str(load_from),
        resume=load_from is not None,
        randomness=dict(seed=5),
        default_scope='mmengine',
        log_level='WARNING',
        experiment_name=f'{root.parent.parent.name}{os.urandom(4).hex()}',  # mmengine keeps loggers by name
        **options,
    )
    _ = runner.train_loop, runner.val_loop, runner.test_loop
    return runner


def record(root, work='work'):
    return json.loads((root.parent / work / 'provenance.json').read_text())


def test_describe(root):
    runner = make(root, val=maps)
    told = describe(runner)
    assert json.loads(json.dumps(told)) == told
    assert 'secret' not in json.dumps(told)
    assert told['versions']['torch'] == torch.__version__
    assert {'mmdysample', 'mmengine', 'numpy', 'python'} <= told['versions'].keys()
    assert (told['seed'], told['deterministic'], told['processes']) == (5, False, 1)
    assert told['device'] == 'CPU' or torch.cuda.is_available()
    (train,), (val,) = told['data']['train'], told['data']['val']
    assert (train['type'], train['images']) == ('Images', 4)
    assert [label['name'] for label in train['labels']] == ['train.json']
    assert [(label['name'], label.get('files')) for label in val['labels']] == [('val.json', None), ('labels/val', 2)]
    sha = subprocess.run(['sha256sum', root / 'train.json'], capture_output=True, text=True, check=True).stdout.split()[0]
    assert train['labels'][0]['sha256'] == sha


@pytest.mark.parametrize(
    ('wrap', 'counts'),
    [
        (lambda root, split: RepeatDataset(images(root), 3), [4]),
        (lambda root, split: ClassBalancedDataset(images(root), 0.5), [4]),
        (lambda root, split: torch.utils.data.ConcatDataset([images(root), RepeatDataset(images(root, 'val'), 2)]), [4, 2]),
        (lambda root, split: ConcatDataset([images(root), images(root, 'val')]), [4, 2]),
        (lambda root, split: Subset(images(root), [0]), [4]),
        (lambda root, split: Plain(), [3]),
    ],
)
def test_wrapped_data(root, wrap, counts):
    assert [dataset['images'] for dataset in describe(make(root, wrap, None))['data']['train']] == counts


def test_data_that_is_elsewhere(root):
    """Annotations by URL, a link to nothing among label maps, annotations outside the data folder."""
    (root / 'labels/train/x.png').symlink_to(root / 'nothing')
    dataset = maps(root)
    dataset.ann_file = 's3://bucket/annotations/train.json'
    (found,) = describe(make(root, lambda *_: dataset, None))['data']['train']
    assert found['labels'][0] == {'name': 'train.json', 'sha256': None}
    assert found['labels'][1]['files'] == 5
    dataset.ann_file, dataset.data_root = str(root / 'train.json'), str(root / 'images')
    (found,) = describe(make(root, lambda *_: dataset, None))['data']['train']
    assert found['labels'][0]['name'] == 'train.json'


def test_revision(tmp_path, monkeypatch):
    """Only of a checkout of this package, whatever repository surrounds it or calls it."""

    def git(*arguments):
        name = ('-c', 'user.name=x', '-c', 'user.email=x', '-c', 'commit.gpgsign=false')
        return subprocess.run(['git', '-C', tmp_path, *name, *arguments], check=True, capture_output=True, text=True).stdout.strip()

    for folder in (tmp_path, tmp_path / 'venv'):
        (folder / 'mmdysample').mkdir(parents=True)
        (folder / 'mmdysample/__init__.py').touch()
    monkeypatch.setattr(description, 'PACKAGE', tmp_path / 'mmdysample')
    assert description._revision() is None  # no repository
    git('init')
    assert description._revision() is None  # no commit
    git('add', 'mmdysample')
    git('commit', '-m', 'x')
    git('tag', '-a', 'v1', '-m', 'x')
    monkeypatch.setenv('GIT_DIR', str(tmp_path / 'another'))
    assert description._revision() == git_revision(tmp_path)
    (tmp_path / 'mmdysample/__init__.py').write_text('changed')
    assert description._revision() == git_revision(tmp_path) + '-dirty'
    with monkeypatch.context() as patched:
        patched.setenv('PATH', '')
        assert description._revision() is None
    monkeypatch.setattr(description, 'PACKAGE', tmp_path / 'venv/mmdysample')
    assert description._revision() is None


def git_revision(folder):
    environment = {name: value for name, value in os.environ.items() if name != 'GIT_DIR'}
    command = ['git', '-C', folder, 'rev-parse', '--short=12', 'HEAD']
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()


def test_every_run_is_recorded(root):
    write_record(make(root), finished=False)
    assert record(root)['finished'] is None
    write_record(make(root), finished=False)  # the one before left no checkpoint
    assert [run['from'] for run in record(root)['runs']] == [None]
    write_record(make(root, load_from=root.parent / 'work/iter_2.pth'), finished=False)
    resumed = make(root, load_from=root.parent / 'work/iter_4.pth')
    write_record(resumed, finished=False)
    assert record(root)['finished'] is None
    write_record(resumed, finished=True)
    assert [run['from'] for run in record(root)['runs']] == [None, 'iter_2.pth', 'iter_4.pth']
    assert record(root)['runs'][0]['started'] <= record(root)['finished']
    assert record(root)['finished'].endswith('+00:00')
    assert record(root)['runs'][0].keys() >= {'versions', 'revision', 'seed', 'deterministic', 'device', 'data'}
    # Resumed in another folder, the training takes its history along.
    write_record(make(root, load_from=root.parent / 'work/iter_4.pth', work='other'), finished=False)
    assert [run['from'] for run in record(root, 'other')['runs']] == [None, 'iter_2.pth', 'iter_4.pth', 'iter_4.pth']
    assert len(record(root)['runs']) == 3


def test_only_the_first_process_writes_and_tells(root, monkeypatch):
    runner = make(root)
    write_record(runner, finished=False)
    written = record(root)
    monkeypatch.setattr(torch, '__version__', '1.0')
    monkeypatch.setattr(Runner, 'rank', 1)
    write_record(runner, finished=True)
    assert record(root) == written
    assert differences(root.parent / 'work/iter_2.pth', runner) == []


BROKEN = [
    b'',
    b'{"runs": [{"vers',
    b'\xff\x00',
    b'[]',
    b'{}',
    b'null',
    b'{"runs": 5}',
    b'{"runs": [5]}',
    b'{"runs": [{"versions": {}}]}',
    b'{"runs": [{"versions": 5}]}',
    b'[' * 99999,
]
BROKEN += [
    b'{"epochs": 3}',
    b'{"runs": [{"versions": {}, "revision": null, "device": null, "processes": 1, "data": {"train": [{"images": 1}]}}]}',
    b'{"runs": [{"versions": {}, "revision": null, "device": null, "processes": 1, "data": {}, "from": 4}]}',
]


@pytest.mark.parametrize('text', BROKEN)
def test_a_broken_record(root, text, capsys):
    """It neither stops anything nor is it lost."""
    file = root.parent / 'work/provenance.json'
    runner = make(root, load_from=root.parent / 'work/iter_2.pth')
    file.write_bytes(text)
    (line,) = differences(file.with_name('iter_2.pth'), runner)
    assert line == f'note: {file} cannot be read as the record of a training, so nothing is compared with it'
    capsys.readouterr()
    write_record(runner, finished=False)
    assert capsys.readouterr().out == f'{line[6:].split(", so")[0]}; it is now provenance.json.damaged; a new record is begun\n'
    assert file.with_name('provenance.json.damaged').read_bytes() == text
    assert [run['from'] for run in record(root)['runs']] == ['iter_2.pth']
    # That of another folder is left as it is.
    file.write_bytes(text)
    write_record(make(root, load_from=root.parent / 'work/iter_2.pth', work='other'), finished=False)
    assert file.read_bytes() == text
    assert capsys.readouterr().out.endswith('cannot be read as the record of a training; a new record is begun\n')


@pytest.mark.parametrize('fault', [PermissionError(13, 'Permission denied'), OSError(5, 'Input/output error')])
def test_a_record_that_cannot_be_read(root, monkeypatch, capsys, fault):
    """Its content may be whole, so it is neither renamed nor overwritten. Training goes on."""
    file = root.parent / 'work/provenance.json'
    runner = make(root, load_from=root.parent / 'work/iter_2.pth')
    write_record(runner, finished=False)
    other = make(root, load_from=root.parent / 'work/iter_2.pth', work='other')
    written, read = file.read_bytes(), Path.read_bytes
    told = f'{file} cannot be read ({fault.strerror})'

    def fail(path):
        if path == file:
            raise fault
        return read(path)

    with monkeypatch.context() as patched:
        patched.setattr(Path, 'read_bytes', fail)
        assert differences(file.with_name('iter_4.pth'), runner) == [f'note: {told}, so nothing is compared with it']
        capsys.readouterr()
        for finished in (False, True):
            write_record(runner, finished=finished)
            assert capsys.readouterr().out == f'note: {told}, so this run is not recorded: make the file readable, or move it away\n'
        write_record(other, finished=False)
        assert capsys.readouterr().out == f'{told}; a new record is begun\n'
    assert file.read_bytes() == written
    assert not list(file.parent.glob('*.damaged'))
    assert [run['from'] for run in record(root, 'other')['runs']] == ['iter_2.pth']


def test_a_folder_in_place_of_the_record(root, capsys):
    runner = make(root)
    (root.parent / 'work/provenance.json').mkdir()
    capsys.readouterr()
    write_record(runner, finished=False)
    assert 'cannot be read (Is a directory), so this run is not recorded' in capsys.readouterr().out
    assert (root.parent / 'work/provenance.json').is_dir()


@pytest.mark.parametrize('text', [None, b'broken'])
def test_a_record_that_is_lost_meanwhile(root, text):
    runner = make(root)
    write_record(runner, finished=False)
    file = root.parent / 'work/provenance.json'
    file.unlink() if text is None else file.write_bytes(text)
    write_record(runner, finished=True)
    assert record(root)['finished']
    assert record(root)['runs'][0]['started'] is None


def test_no_differences(root):
    assert differences(root.parent / 'work/iter_2.pth', make(root)) == []  # no record
    write_record(make(root, val=maps), finished=True)
    for runner in (make(root, val=maps), make(root, val=maps, test=True)):
        assert differences(root.parent / 'work/iter_2.pth', runner) == []


def altered(root, **values):
    file = root.parent / 'work/provenance.json'
    content = record(root)
    for name, value in values.items():
        owner = content['runs'][-1]
        *keys, last = name.split('__')
        for key in keys:
            owner = owner[key]
        owner[last] = value
    file.write_text(json.dumps(content))
    return file.parent


def test_other_environments(root):
    write_record(make(root), finished=True)
    torch_now, device = str(torch.__version__), describe(make(root))['device']
    folder = altered(root, versions__torch='2.0', device='NVIDIA H100', versions__gone='1.0')
    expected = f'note: trained with torch 2.0, now {torch_now}; on NVIDIA H100, now {device}'
    assert differences(folder / 'iter_2.pth', make(root)) == differences(folder / 'iter_2.pth', make(root, test=True)) == [expected]
    altered(root, versions__torch=torch_now, device=device, processes=8, seed=7, threads=99)
    assert differences(folder / 'iter_2.pth', make(root)) == ['note: trained in processes: 8, now 1']
    assert differences(folder / 'iter_2.pth', make(root, test=True)) == []


def test_other_revisions(root, monkeypatch):
    write_record(make(root), finished=True)
    folder = altered(root, revision='abc')
    monkeypatch.setattr(description, '_revision', lambda: 'abc-dirty')
    assert differences(folder / 'iter_2.pth', make(root)) == ['note: trained at revision abc, now abc-dirty']
    monkeypatch.setattr(description, '_revision', lambda: None)  # not known
    assert differences(folder / 'iter_2.pth', make(root)) == []
    altered(root, revision=None)
    monkeypatch.setattr(description, '_revision', lambda: 'abc')
    assert differences(folder / 'iter_2.pth', make(root)) == []


@pytest.mark.parametrize(
    ('begun', 'name', 'maker'),
    [
        ([None], 'iter_2.pth', 0),
        ([None, 'iter_2.pth', 'iter_6.pth'], 'iter_2.pth', 0),
        ([None, 'iter_2.pth', 'iter_6.pth'], 'iter_4.pth', 1),
        ([None, 'iter_2.pth', 'iter_6.pth'], 'iter_6.pth', 1),
        ([None, 'iter_2.pth', 'iter_10.pth'], 'iter_12.pth', 2),
        ([None, 'iter_6.pth', 'iter_2.pth'], 'iter_8.pth', 2),  # from an older one again
        ([None, 'best_mIoU_iter_2.pth', 'iter_6.pth'], 'best_coco_bbox_mAP_iter_4.pth', 1),
        ([None, 'epoch_1.pth'], 'epoch_1.pth', 0),
        (['model.pth', 'iter_2.pth'], 'iter_4.pth', 1),
        (['model.pth', 'iter_2.pth'], 'iter_2.pth', None),  # who knows when it was saved
        (['iter_4.pth'], 'iter_2.pth', None),  # of a run before the record
        ([None, 'iter_2.pth'], 'model.pth', None),
        ([None, 'iter_2.pth'], 'epoch_1.pth', None),
    ],
)
def test_the_run_that_saved_the_checkpoint_counts(root, begun, name, maker):
    """Or else the last one, and the lines say so."""
    runner = make(root)
    run, now = describe(runner), str(torch.__version__)
    runs = [
        {**run, 'from': start, 'versions': {'torch': f'run {i}'}, 'data': {'train': [{'images': i, 'labels': []}]}}
        for i, start in enumerate(begun)
    ]
    (root.parent / 'work/provenance.json').write_text(json.dumps({'runs': runs}))
    number, note = (len(runs) - 1, 'note: in the last run,') if maker is None else (maker, 'note:')
    environment, data = differences(root.parent / 'work' / name, runner)
    assert environment == f'{note} trained with torch run {number}, now {now}'
    assert data.startswith(f'{note} trained on {number} images, now on 4 images (train.json ')


@pytest.mark.parametrize(('age', 'maker'), [(3600, 0), (-3600, 1)])
def test_a_later_checkpoint_of_an_earlier_run(root, age, maker):
    """Training went on from iter_2.pth, and iter_4.pth of the run before it may still be there."""
    runner = make(root)
    started = '2026-01-02T03:04:05+00:00'
    run = {**describe(runner), 'started': started}
    runs = [{**run, 'from': start, 'versions': {'torch': f'run {i}'}} for i, start in enumerate((None, 'iter_2.pth'))]
    runs[0]['started'] = '2026-01-01T00:00:00+00:00'
    file = root.parent / 'work/iter_4.pth'
    file.touch()
    moment = datetime.fromisoformat(started).timestamp() - age
    os.utime(file, (moment, moment))
    (file.parent / 'provenance.json').write_text(json.dumps({'runs': runs}))
    (line,) = differences(file, runner)
    assert line == f'note: trained with torch run {maker}, now {torch.__version__}'


def test_a_checkpoint_in_the_home_folder(root, monkeypatch):
    write_record(make(root), finished=False)
    altered(root, versions__torch='2.0')
    monkeypatch.setenv('HOME', str(root.parent))
    (line,) = differences(Path('~', 'work', 'iter_2.pth'), make(root))
    assert line.startswith('note: trained with torch 2.0')


@pytest.mark.parametrize('changed', ['entries', 'same size', 'label map', 'one more map'])
def test_other_data(root, changed):
    write_record(make(root, maps, maps), finished=True)
    for split in ('train', 'val'):
        file, maps_ = root / f'{split}.json', root / 'labels' / split
        text = file.read_text()
        if changed == 'entries':
            content = json.loads(text)
            file.write_text(json.dumps({**content, 'data_list': content['data_list'][1:]}))
        elif changed == 'same size':
            file.write_text(text.replace('1.png', '0.png'))
            os.utime(file, ns=(1, 1))
        else:
            (maps_ / ('0.png' if changed == 'label map' else '9.png')).write_bytes(b'yy')
    forget()
    lines = differences(root.parent / 'work/iter_2.pth', make(root, maps, maps))
    assert len(lines) == 2
    assert lines[0].startswith('note: trained on 4 images (train.json ')
    (line,) = differences(root.parent / 'work/iter_2.pth', make(root, maps, maps, test=True))
    assert line == lines[1]
    count = 1 if changed == 'entries' else 2
    assert line.startswith('note: during training evaluated on 2 images (val.json ')
    assert f'), now on {count} images (val.json ' in line


def test_a_training_without_evaluation_is_compared_with_none(root):
    write_record(make(root, val=None), finished=True)
    assert differences(root.parent / 'work/iter_2.pth', make(root, test=True)) == []


def test_a_large_file_is_read_once(root, monkeypatch):
    runner, opened = make(root), []
    describe(runner)
    monkeypatch.setattr(description, 'open', lambda *arguments: opened.append(arguments), raising=False)
    describe(runner)
    assert opened == []
