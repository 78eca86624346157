"""Whatever goes wrong while data is loaded or evaluated names the file in one line."""

import io
import logging
import os
import pickle

import numpy as np
import pytest
import torch
from mmcv.transforms import BaseTransform, LoadAnnotations, LoadImageFromFile
from mmengine.dataset import BaseDataset, ClassBalancedDataset, Compose, ConcatDataset, RepeatDataset, pseudo_collate
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement, PixelData
from PIL import Image
from torch.utils.data import DataLoader

from mmdysample.datasets.last_file import last_file, remember
from mmdysample.datasets.loading import DataError, is_cut_off, name_files, naming_the_dataset
from mmdysample.engine.errors import StoppedError, exit_on_error, one_line
from mmdysample.engine.failures import explain
from mmdysample.engine.runner import Runner
from mmdysample.pictures.image_input import read_pixels


class Images(BaseDataset):
    """The files of a folder, in the order of their names."""

    def load_data_list(self):
        return [
            dict(img_path=f'{self.data_root}/{i}.jpg', seg_map_path=f'{self.data_root}/{i}.png', instances=[], seg_fields=[])
            for i in range(4)
        ]

    def get_cat_ids(self, idx):
        return [0]


class Refuse(BaseTransform):
    """A step that fails, or returns nothing, for an image."""

    def __init__(self, name, returns_nothing=False):
        self.name, self.returns_nothing = name, returns_nothing

    def transform(self, results):
        if not results['img_path'].endswith(self.name):
            return results
        if self.returns_nothing:
            return None
        raise ValueError('cannot reshape array of size 7\ninto shape (2,2)')


def encoded(kind, **options):
    pixels = np.random.default_rng(0).integers(0, 255, (32, 24, 3), dtype=np.uint8).repeat(2, 0)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def with_thumbnail():
    """A JPEG file with another one in its EXIF data, as cameras write it."""
    data, thumbnail = encoded('JPEG'), b'Exif\0\0' + encoded('JPEG', quality=5)
    return data[:2] + b'\xff\xe1' + (len(thumbnail) + 2).to_bytes(2, 'big') + thumbnail + data[2:]


@pytest.fixture
def folder(tmp_path):
    for i in range(4):
        (tmp_path / f'{i}.jpg').write_bytes(encoded('JPEG'))
        (tmp_path / f'{i}.png').write_bytes(encoded('PNG'))
    return tmp_path


def images(folder, *steps, **options):
    dataset = Images(data_root=str(folder), pipeline=[LoadImageFromFile(), *steps], **options)
    name_files(dataset)
    return dataset


JPEG, PNG = encoded('JPEG'), encoded('PNG')
SPOILT = {
    'half of it': (JPEG[: len(JPEG) // 2], 'is cut off'),
    'without its end': (JPEG[:-2], 'is cut off'),
    'half behind a thumbnail': (with_thumbnail()[: -len(JPEG) // 2], 'is cut off'),
    'its first bytes': (JPEG[:9], 'is cut off'),
    'half of a PNG file': (PNG[: len(PNG) // 2], 'cannot be decoded'),
    'nothing': (b'', 'is an empty file'),
    'HTML': (b'<html>404</html>', 'is not an image'),
    'a pointer of Git LFS': (b'version https://git-lfs.github.com/spec/v1\n', 'is not an image'),
    'no file': (None, 'there is no file'),
}


@pytest.mark.parametrize(('content', 'message'), SPOILT.values(), ids=SPOILT)
@pytest.mark.parametrize('name', ['2.jpg', '2.png'])
def test_a_file_that_cannot_be_loaded(folder, content, message, name):
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    dataset = images(folder, LoadAnnotations(with_bbox=False, with_label=False, with_seg=True))
    assert dataset[1]['img'].shape == (64, 24, 3)
    with pytest.raises(DataError, match=message) as refused:
        dataset[2]
    assert str(folder / name) in str(refused.value)
    assert '\n' not in str(refused.value)


def test_a_file_that_nobody_may_read(folder, monkeypatch):
    def refuse(self, results):
        raise PermissionError(13, 'Permission denied', results['img_path'])

    monkeypatch.setattr(LoadImageFromFile, 'transform', refuse)
    with pytest.raises(DataError, match=r'2\.jpg cannot be read \(Permission denied\)'):
        images(folder)[2]


@pytest.mark.parametrize(
    'content',
    [
        JPEG,
        encoded('JPEG', progressive=True),
        with_thumbnail(),
        JPEG + bytes(512),  # padded to whole blocks
        JPEG[:2] + b'\xff' + JPEG[2:] + bytes(512),  # and the space before a marker is filled
        with_thumbnail() + b'trailer of a telephone',
        PNG,
        PNG + b'more',
        encoded('TIFF'),
        encoded('WEBP'),
        encoded('BMP'),
    ],
)
def test_a_sound_file_is_loaded(folder, content):
    (folder / '2.jpg').write_bytes(content)
    assert images(folder)[2]['img'].shape == (64, 24, 3)
    assert read_pixels(str(folder / '2.jpg')).shape == (64, 24, 3)


@pytest.mark.parametrize('start', [JPEG, b'\xff\xd8\xff' + JPEG[2:]])
def test_a_file_that_ends_anywhere_is_cut_off(tmp_path, start):
    for length in range(2, len(start)):
        (tmp_path / 'x.jpg').write_bytes(start[:length])
        assert is_cut_off(str(tmp_path / 'x.jpg')), length


def test_real_photos_are_sound(coco128):
    photos = list(coco128.rglob('*.jpg'))
    assert len(photos) >= 128
    assert not any(is_cut_off(str(path)) for path in photos)


def test_a_cut_image_is_not_drawn(folder):
    (folder / '2.jpg').write_bytes(JPEG[: len(JPEG) // 2])
    with pytest.raises(ValueError, match=r'2\.jpg is cut off'):
        read_pixels(str(folder / '2.jpg'))


def test_a_step_that_fails(folder):
    dataset = images(folder, Refuse('2.jpg'), ann_file='annotations.json')
    with pytest.raises(DataError) as refused:
        dataset[2]
    line = str(refused.value)
    assert line.startswith(f'{folder}/2.jpg with {folder}/2.png cannot be loaded (Refuse: ValueError: cannot reshape array of size 7 into')
    assert f'its entry in {folder}/annotations.json' in line
    assert 'MMDYSAMPLE_TRACEBACK=1' in line


def test_a_pipeline_that_is_replaced(folder):
    """mmdet's PipelineSwitchHook does this in the last epochs."""
    dataset = images(folder)
    dataset.pipeline = Compose([Refuse('3.jpg')])
    with pytest.raises(DataError, match=r'3\.jpg'):
        dataset[3]


def test_a_pipeline_that_returns_nothing(folder):
    dataset = images(folder, Refuse('2.jpg', returns_nothing=True))
    assert dataset[2]['img_path'] != f'{folder}/2.jpg'  # another image, as in mmengine
    with pytest.raises(DataError, match=r'returned nothing for 6 items in a row, at last .*\d\.jpg'):
        images(folder, Refuse('.jpg', returns_nothing=True), max_refetch=5)[2]
    with pytest.raises(DataError, match=r'returned nothing for .*2\.jpg'):
        images(folder, Refuse('2.jpg', returns_nothing=True), test_mode=True)[2]


def test_images_that_are_replaced_are_named(folder, capsys):
    (folder / '2.jpg').write_bytes(b'')
    dataset = Images(data_root=str(folder), pipeline=[LoadImageFromFile(ignore_empty=True)])
    name_files(dataset)
    for _ in range(3):
        assert dataset[2]['img_path'] != f'{folder}/2.jpg'
    assert capsys.readouterr().out.count(f'warning: {folder}/2.jpg is an empty file; other images take the place') == 1


@pytest.mark.parametrize(
    'wrap',
    [
        lambda dataset: RepeatDataset(dataset, 2),
        lambda dataset: ClassBalancedDataset(dataset, 0.5),
        lambda dataset: ConcatDataset([dataset, dataset]),
    ],
)
def test_wrappers(folder, wrap):
    (folder / '2.jpg').write_bytes(b'')
    dataset = wrap(Images(data_root=str(folder), pipeline=[LoadImageFromFile()]))
    name_files(dataset)
    with pytest.raises(DataError, match=r'2\.jpg is an empty file'):
        dataset[len(dataset) - 2]


class Mix(Refuse):
    """A step that takes other images."""

    def get_indexes(self, dataset):
        return [3]

    get_indices = get_indexes

    def transform(self, results):
        assert len(results['mix_results']) == 1
        return super().transform(results)


@pytest.mark.parametrize(('framework', 'wrap'), [('mmdet', lambda dataset: dataset), ('mmseg', lambda dataset: ConcatDataset([dataset]))])
def test_steps_that_mix_images(folder, framework, wrap):
    datasets = pytest.importorskip(f'{framework}.datasets')
    (folder / '3.jpg').write_bytes(b'')
    for name, message in (('1.jpg', r'3\.jpg is an empty file'), ('2.jpg', r'2\.jpg, .*3\.jpg cannot be loaded \(Mix: ValueError')):
        inner = wrap(Images(data_root=str(folder), pipeline=[LoadImageFromFile()]))
        dataset = datasets.MultiImageMixDataset(inner, [dict(type=Mix, name=name)])
        name_files(dataset)
        dataset = pickle.loads(pickle.dumps(dataset))
        with pytest.raises(DataError, match=message):
            dataset[int(name[0])]
        (folder / '3.jpg').write_bytes(JPEG)


def test_an_error_comes_through_a_worker(folder):
    (folder / '2.jpg').write_bytes(b'')
    dataset = pickle.loads(pickle.dumps(images(folder)))  # as if the worker was spawned
    loader = DataLoader(dataset, num_workers=1, collate_fn=pseudo_collate, sampler=[1, 2])
    with pytest.raises(DataError) as refused:
        list(loader)
    assert one_line(refused.value).startswith(f'{folder}/2.jpg is an empty file: ')
    assert explain(refused.value, None) == one_line(refused.value)
    assert 'Traceback' in str(refused.value)  # for MMDYSAMPLE_TRACEBACK=1


def test_annotations_that_cannot_be_read(folder):
    class Broken(Images):
        def load_data_list(self):
            raise KeyError('area')

    class Empty(Images):
        def load_data_list(self):
            return []

    for cls, message in ((Broken, r"Broken cannot read .*x\.json: KeyError: 'area'"), (Empty, r'nothing is left of .*x\.json')):
        with pytest.raises(DataError, match=message), naming_the_dataset():
            RepeatDataset(cls(data_root=str(folder), ann_file='x.json'), 2)
    with pytest.raises(TypeError), naming_the_dataset():
        Images(data_rot=str(folder))  # a mistake in the config


class Fails(BaseMetric):
    """A metric that fails in one of its methods."""

    def __init__(self, method=None):
        super().__init__()
        self.method = method

    def process(self, data_batch, data_samples):
        self.results.append(1)
        if self.method == 'process':
            raise IndexError('index 7 is out of bounds')

    def compute_metrics(self, results):
        if self.method == 'compute_metrics':
            raise KeyError('info')
        return {'mean': 1.0}


class Line(BaseModel):
    """A model with one weight."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        if mode == 'loss':
            return {'loss': self.weight * sum(image.float().mean() for image in inputs)}
        return data_samples


class Pack(BaseTransform):
    """Pack an item as mmdet and mmseg do."""

    def transform(self, results):
        sample = BaseDataElement(metainfo=dict(img_path=results['img_path']))
        return dict(inputs=torch.from_numpy(results['img']), data_samples=sample)


class SpoilAfterAnEpoch(Hook):
    """Cut an image off when the first epoch has ended."""

    def __init__(self, path):
        self.path = path

    def after_train_epoch(self, runner):
        self.path.write_bytes(JPEG[: len(JPEG) // 2])


@pytest.fixture
def toy(folder, tmp_path, monkeypatch):
    """Build a runner that trains a toy model for two epochs."""
    monkeypatch.setattr(logging, 'raiseExceptions', False)

    def build(metric=None, **options):
        def loader():
            dataset = Images(data_root=str(folder), pipeline=[LoadImageFromFile(), Pack()])
            return dict(dataset=dataset, batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False), **options)

        return Runner(
            model=Line(),
            work_dir=str(tmp_path / 'work'),
            train_dataloader=loader(),
            train_cfg=dict(by_epoch=True, max_epochs=2),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
            val_dataloader=loader(),
            val_cfg=dict(),
            val_evaluator=[Fails(metric)],
            log_level='ERROR',
            experiment_name=f'{tmp_path.name}_{metric}',
        )

    return build


def test_a_file_that_breaks_during_training(toy, folder):
    runner = toy()
    runner.register_hook(SpoilAfterAnEpoch(folder / '2.jpg'))
    with pytest.raises(StoppedError, match=r'2\.jpg is cut off, .*; epoch_1\.pth is saved: continue with --resume$'):
        runner.train()


@pytest.mark.parametrize(
    ('method', 'message'),
    [
        ('process', r'Fails cannot evaluate .*0\.jpg, .*1\.jpg \(IndexError: index 7 is out of bounds\)'),
        ('compute_metrics', r"Fails cannot evaluate the predictions \(KeyError: 'info'\)"),
    ],
)
def test_an_evaluation_that_fails(toy, method, message):
    with pytest.raises(StoppedError, match=rf'{message}.*; epoch_1\.pth is saved: continue with --resume$'):
        toy(method).train()


def test_a_batch_that_cannot_be_put_together(toy, folder):
    Image.new('RGB', (9, 9)).save(folder / '1.jpg')
    runner = toy(collate_fn=dict(type='default_collate'))
    with pytest.raises(StoppedError, match=r'a batch cannot be put together \(.*; no checkpoint was saved yet$'):
        runner.train()


def test_a_bug_keeps_its_traceback(toy, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError('expected scalar type Half but found Float')

    monkeypatch.setattr(Line, 'forward', fail)
    with pytest.raises(RuntimeError, match='Half'):
        toy().train()


def test_ctrl_c_in_training(toy, monkeypatch, capfd):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(Line, 'forward', interrupt)
    with pytest.raises(SystemExit) as exit_, exit_on_error():
        toy().train()
    assert exit_.value.code == 130
    assert capfd.readouterr().err.splitlines()[-1] == 'error: interrupted; no checkpoint was saved yet'


def test_ctrl_c_elsewhere(capfd, monkeypatch):
    with pytest.raises(SystemExit, match='130'), exit_on_error():
        raise KeyboardInterrupt
    assert capfd.readouterr().err == 'error: interrupted\n'
    monkeypatch.setenv('RANK', '1')  # the first process has said it
    with pytest.raises(SystemExit, match='130'), exit_on_error():
        raise KeyboardInterrupt
    assert not capfd.readouterr().err


def batch_with_label(value):
    sample = BaseDataElement(metainfo=dict(img_path='a.jpg', seg_map_path='a.png', reduce_zero_label=True))
    sample.gt_sem_seg = PixelData(data=torch.tensor([[[0, 255, value]]]))
    fine = sample.clone()
    fine.set_metainfo(dict(img_path='fine.jpg', seg_map_path='fine.png'))
    fine.gt_sem_seg = PixelData(data=torch.tensor([[[0, 255, 1]]]))
    return dict(data_samples=[fine, sample])


@pytest.mark.parametrize(
    ('kind', 'text', 'message'),
    [
        (IndexError, 'Target 7 is out of bounds.', 'a.png has the label 8'),
        (torch.cuda.OutOfMemoryError, 'CUDA out of memory. Tried to allocate 2.00 GiB.', 'Tried to allocate 2.00 GiB.): lower batch_size'),
        (RuntimeError, "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.", 'lower batch_size'),
        (MemoryError, 'Unable to allocate 8.00 GiB for an array', 'Unable to allocate 8.00 GiB for an array): lower batch_size'),
        (RuntimeError, 'DataLoader worker (pid 12) is killed by signal: Killed. ', 'lower num_workers'),
        (RuntimeError, 'DataLoader worker (pid(s) 12, 13) exited unexpectedly', 'lower num_workers'),
        (RuntimeError, 'DataLoader worker (pid 12) is killed by signal: Bus error. It is possible that', '--shm-size'),
        (RuntimeError, 'unable to open shared memory object </torch_1_2>: No space left on device (28)', '--shm-size'),
        (RuntimeError, 'DataLoader worker (pid 12) is killed by signal: Segmentation fault. ', 'tools/check_data.py'),
        (RuntimeError, 'received 0 items of ancdata', 'ulimit -n'),
        (
            RuntimeError,
            "Calculated padded input size per channel: (9 x 1). Kernel size can't be greater than",
            'accept fine.jpg, a.jpg',
        ),
    ],
)
def test_reasons_beyond_a_file(kind, text, message):
    assert message in explain(kind(text), batch_with_label(7))


def test_images_that_do_not_fit_into_one_batch():
    batch = batch_with_label(1)
    batch['inputs'] = [torch.zeros(3, 1, 3), torch.zeros(3, 2, 5)]
    unequal = AssertionError('The image size in a batch should be the same.')
    assert '(fine.jpg: 3x1, a.jpg: 5x2): set batch_size=1' in explain(unequal, batch)
    unequal = RuntimeError('stack expects each tensor to be equal size, but got [1, 1, 3] at entry 0')
    assert 'the label map a.png of a.jpg has another size than the image' in explain(unequal, batch)
    batch['data_samples'][1].gt_sem_seg = PixelData(data=torch.zeros(2, 5, 3))
    assert 'the label map a.png of a.jpg has colours' in explain(unequal, batch)


def test_labels_that_do_not_fit_their_image_in_an_evaluation():
    batch = batch_with_label(1)
    for sample, shape in zip(batch['data_samples'], ((1, 3), (2, 3))):
        sample.set_metainfo(dict(ori_shape=shape))
    with pytest.raises(IndexError) as failed:
        Fails('process').process(batch, [])
    assert explain(IndexError('0'), batch) is None
    failed.value.args = ('The shape of the mask [1, 3] does not match',)
    assert explain(failed.value, batch) == 'the label map a.png of a.jpg has another size than the image'


def test_the_file_of_a_process_that_died(folder):
    images(folder)[2]
    dead = RuntimeError(f'DataLoader worker (pid {os.getpid()}) is killed by signal: Segmentation fault. ')
    assert f'crashed while it loaded {folder}/2.jpg with' in explain(dead, None)
    assert last_file(os.getpid() + 64) is None  # it would have the same slot
    remember('x' * 5000)
    assert last_file(os.getpid()) == 'x' * len(last_file(os.getpid()))


@pytest.mark.parametrize('error', [RuntimeError('mat1 and mat2 shapes cannot be multiplied'), KeyError('neck'), OSError('disk full')])
def test_other_errors_are_not_explained_away(error):
    assert explain(error, batch_with_label(1)) is None
