"""Run the command lines from beginning to end, in processes of their own, on a few Shapes scenes.

Most tools run in forked processes (``forked.py``). ``test_help_is_quick_and_pure``, ``test_resume_after_kill``, ``test_two_processes`` and
``test_for_real`` of ``test_shapes_table.py`` start fresh interpreters, as users do.
"""

import json
import os
import pickle
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import PIL.Image
import pytest
import torch
from conftest import ROOT, mmdet_config
from forked import run_forked

from mmdysample.engine.config import load_config
from mmdysample.engine.model import build_model

pytestmark = pytest.mark.slow

SIZES = ['shapes.train=16', 'shapes.val=8']
FASTER = 'configs/shapes/faster_rcnn_dysample_shapes.py'
SEGFORMER = 'configs/shapes/segformer_b1_dysample_shapes.py'
BRIEF = [*SIZES, 'train_cfg.max_iters=2', 'train_cfg.val_interval=2']
SHORT = [*SIZES, 'train_cfg.max_epochs=1', 'default_hooks.logger.interval=1']


@pytest.fixture
def environment(shapes):
    return {**os.environ, 'SHAPES_ROOT': str(shapes), 'PYTHON': sys.executable, 'PYTHONUNBUFFERED': '1', 'PYTHONWARNINGS': 'ignore'}


@pytest.fixture
def run(environment):
    def call(*command, cwd=ROOT):
        done = subprocess.run(list(map(str, command)), env=environment, cwd=cwd, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout + done.stderr

    return call


def tool(name, *arguments):
    return sys.executable, ROOT / f'tools/{name}.py', *arguments


@pytest.fixture
def forked(environment, tmp_path_factory):
    """Run a tool in a forked process and return what it printed."""

    def call(name, *arguments, variables={}, code=0):
        command = (ROOT / f'tools/{name}.py', *arguments)
        variables = {name: str(value) for name, value in variables.items()}
        done = run_forked(command, {**environment, **variables}, ROOT, tmp_path_factory.mktemp('printed'))
        assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout + done.stderr

    return call


@pytest.mark.parametrize(
    ('config', 'options', 'rows'),
    [
        (FASTER, SHORT, ['box']),
        ('configs/shapes/mask_rcnn_dysample_shapes.py', SHORT, ['box', 'mask']),
        ('configs/shapes/panoptic_fpn_dysample_shapes.py', SHORT, ['all', 'things', 'stuff']),
        (SEGFORMER, BRIEF, ['mIoU']),
        ('configs/shapes/dupsample_r50_shapes.py', BRIEF, ['mIoU']),
        ('configs/shapes/depth_swin_t_dysample_shapes.py', BRIEF, ['δ<1.25³', 'AbsRel', 'SILog']),
        ('configs/shapes/maskformer_swin_b_dysample_shapes.py', BRIEF, ['mIoU']),
    ],
)
def test_train_test_and_draw(forked, tmp_path, config, options, rows):
    work = tmp_path / 'work'
    printed = forked('train', config, '--work-dir', work, '--cfg-options', *options)
    assert 'eta:' in printed
    assert f'config:     {work / Path(config).name}' in printed
    checkpoint = Path((work / 'last_checkpoint').read_text())
    assert f'checkpoint: {checkpoint}' in printed

    # The saved config knows all that was said on the command line.
    saved = work / Path(config).name
    arguments = ('--work-dir', work, '--out', tmp_path / 'out.pkl', '--show-dir', tmp_path / 'drawn')
    evaluated = forked('test', saved, checkpoint, *arguments)
    record = json.loads((work / 'provenance.json').read_text())
    assert (len(record['runs']), record['runs'][0]['data']['train'][0]['images']) == (1, 16)
    assert record['finished']
    assert 'note: trained' not in evaluated
    for row in rows:
        assert re.search(rf'[│┃] {row} +[│┃]', printed), printed[-2000:]
        assert re.search(rf'[│┃] {row} +[│┃]', evaluated), evaluated[-2000:]
    assert len(pickle.loads((tmp_path / 'out.pkl').read_bytes())) == 8
    assert len(list((tmp_path / 'drawn').rglob('*.[jp][pn]g'))) == 8

    picture = tmp_path / 'picture.png'
    arguments = ('predictions', saved, checkpoint, '--work-dir', work, '--out', picture, '--count', '2')
    assert f'picture: {picture}' in forked('visualize', *arguments)
    assert picture.stat().st_size > 20_000


def test_resume_after_kill(environment, forked, tmp_path):
    """Killed in the middle of an epoch, with a checkpoint half written: training goes on from the last complete one."""
    work = tmp_path / 'work'
    arguments = (FASTER, '--work-dir', work, '--cfg-options', *SIZES, 'default_hooks.logger.interval=1', 'train_cfg.val_interval=100')
    process = subprocess.Popen(
        list(map(str, tool('train', *arguments, 'train_cfg.max_epochs=100'))),
        env=environment,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.time() + 200
    while not (work / 'last_checkpoint').exists() or 'epoch_2' not in (work / 'last_checkpoint').read_text():
        assert process.poll() is None
        assert time.time() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    last = max(int(path.stem.split('_')[1]) for path in work.glob('epoch_*.pth'))
    torn = work / f'epoch_{last + 1}.pth'
    torn.write_bytes((work / f'epoch_{last}.pth').read_bytes()[:10_000])

    printed = forked('train', FASTER, '--resume', '--work-dir', work, *arguments[3:], f'train_cfg.max_epochs={last + 1}')
    assert f'skipped: {torn} is not a complete checkpoint' in printed
    assert f'resuming from {work}/epoch_{last}.pth' in printed
    assert re.search(rf'Epoch\(train\) +\[{last + 1}\]\[1/4\]', printed)
    assert not re.search(rf'Epoch\(train\) +\[{last}\]\[', printed)
    assert torch.load(torn, weights_only=False)['meta']['epoch'] == last + 1

    # A complete training is left as it is.
    again = forked('train', FASTER, '--resume', '--work-dir', work, *arguments[3:], f'train_cfg.max_epochs={last + 1}')
    assert 'Epoch(train)' not in again
    assert 'this training was complete already' in again


def test_resume_after_kill_in_the_last_evaluation(forked, tmp_path):
    """Nothing is left to train, and the best checkpoint is not there yet."""
    work = tmp_path / 'work'
    arguments = (SEGFORMER, '--work-dir', work, '--cfg-options', *BRIEF)
    forked('train', *arguments)
    (best,) = work.glob('best_*.pth')
    best.unlink()
    content = torch.load(work / 'iter_2.pth', weights_only=False)
    for key in ('best_score', 'best_ckpt'):
        del content['message_hub']['runtime_info'][key]
    torch.save(content, work / 'iter_2.pth')
    printed = forked('train', SEGFORMER, '--resume', *arguments[1:])
    assert 'this training was complete already' in printed
    assert best.is_file()


def test_two_processes(run, tmp_path):
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    work = tmp_path / 'work'
    environment = ('env', f'PORT={port}', 'OMP_NUM_THREADS=1')
    printed = run(*environment, ROOT / 'tools/dist_train.sh', FASTER, '2', '--work-dir', work, '--cfg-options', *SHORT)
    assert re.search(r'Epoch\(train\) +\[1\]\[2/2\]', printed)  # 16 images, 4 a process, 2 processes
    saved = work / Path(FASTER).name
    arguments = (saved, work / 'epoch_1.pth', '2', '--work-dir', work)
    assert '│ box ' in run(*environment, ROOT / 'tools/dist_test.sh', *arguments)


def test_a_folder_of_ones_own_by_flags_alone(forked, shapes, tmp_path):
    """Three categories and file names that no config knows; testing and resuming need no flag."""
    root = tmp_path / 'fruit'
    (root / 'annotations').mkdir(parents=True)
    for split in ('train', 'val'):
        (root / f'{split}_photos').mkdir()
        content = json.loads((shapes / f'coco/annotations/instances_{split}2017.json').read_text())
        for category, name in zip(content['categories'], ('apple', 'crate', 'carrot')):
            category['name'] = name
        for image in content['images']:
            source, image['file_name'] = image['file_name'], f'photo-{image["id"]}.png'
            shutil.copy(shapes / 'coco' / f'{split}2017' / source, root / f'{split}_photos' / image['file_name'])
        (root / f'annotations/instances_{split}_v3.json').write_text(json.dumps(content))
    work = tmp_path / 'work'
    config = 'configs/shapes/mask_rcnn_dysample_shapes.py'
    options = ['train_cfg.max_epochs=1', 'default_hooks.logger.interval=1']
    printed = forked('train', config, '--data-root', root, '--work-dir', work, '--cfg-options', *options)
    assert 'classes: 3 from the annotations (apple, crate, carrot)' in printed
    saved = work / Path(config).name
    shown = ('--show-dir', tmp_path / 'drawn', '--cfg-options', 'model.test_cfg.rcnn.score_thr=0.0', 'model.test_cfg.rcnn.max_per_img=5')
    assert '│ mask ' in forked('test', saved, work / 'epoch_1.pth', *shown)
    assert len(list((tmp_path / 'drawn').rglob('*.png'))) == 8
    assert torch.load(work / 'epoch_1.pth', weights_only=False)['meta']['dataset_meta']['classes'] == ('apple', 'crate', 'carrot')
    resumed = forked('train', saved, '--resume', '--cfg-options', 'train_cfg.max_epochs=2')
    assert re.search(r'Epoch\(train\) +\[2\]\[4/4\]', resumed)


def test_label_maps_of_ones_own_by_flags_alone(forked, shapes, tmp_path):
    """Two classes, counted from 0, on images of several sizes; testing and resuming need no flag."""
    root = tmp_path / "l'étang"
    for split in ('training', 'validation'):
        for i, path in enumerate(sorted((shapes / f'ade/images/{split}').iterdir())[:8]):
            size = (128 + 32 * (i % 3), 97 + 50 * (i % 2))
            for kind, ending in (('images', '.jpg'), ('annotations', '_mask.png')):
                with PIL.Image.open(shapes / f'ade/{kind}/{split}/{path.name}') as image:
                    target = root / kind / split / f'{path.stem}{ending}'
                    target.parent.mkdir(parents=True, exist_ok=True)
                    resized = image.resize(size, PIL.Image.Resampling.NEAREST)
                    (resized.point(lambda label: int(label > 3)) if kind == 'annotations' else resized).save(target)
    work = tmp_path / 'work'
    few = ['--cfg-options', 'train_cfg.max_iters=2', 'train_cfg.val_interval=2', 'default_hooks.checkpoint.interval=2']
    printed = forked('train', SEGFORMER, '--data-root', root, '--classes', 'thing,stuff', '--work-dir', work, *few)
    assert 'classes: 2 from --classes (thing, stuff)' in printed
    assert 'labels: values 0 to 1 are the classes, ignored: none; reduce_zero_label=False' in printed
    saved = work / Path(SEGFORMER).name
    tested = forked('test', saved, work / 'iter_2.pth')
    iou = r'thing +\| +[\d.]+'
    assert re.findall(iou, tested) == re.findall(iou, printed) != []
    meta = torch.load(work / 'iter_2.pth', weights_only=False)['meta']['dataset_meta']
    assert (meta['classes'], meta['reduce_zero_label']) == (('thing', 'stuff'), False)
    forked('train', saved, '--resume', '--cfg-options', 'train_cfg.max_iters=4')
    assert (work / 'iter_4.pth').is_file()


def test_a_stock_config_takes_the_neck_from_the_command_line(forked, shapes, tmp_path):
    config = mmdet_config('retinanet/retinanet_r50_fpn_1x_coco.py')
    options = [
        'model.neck.type=mmdysample.FPN',
        'model.neck.upsample_cfg.type=DySample',
        'model.backbone.init_cfg=None',
        'train_cfg.max_epochs=1',
        'train_dataloader.batch_size=1',
        'train_dataloader.dataset.indices=1',
        'val_dataloader.dataset.indices=1',
        'default_hooks.logger.interval=1',
        'train_dataloader.dataset.pipeline.2.scale=(256,256)',  # the stock config enlarges 128 pixels to 800
        'val_dataloader.dataset.pipeline.1.scale=(256,256)',
    ]
    work = tmp_path / 'work'
    printed = forked('train', config, '--data-root', shapes / 'coco', '--work-dir', work, '--cfg-options', *options)
    assert re.search(r'Epoch\(train\) +\[1\]\[1/1\].* loss: [\d.]+', printed)
    keys = torch.load(work / 'epoch_1.pth', weights_only=False)['state_dict']
    assert 'neck.upsample_modules.1.offset.weight' in keys


@pytest.mark.parametrize('name', ['train', 'test', 'visualize', 'benchmark', 'convert_checkpoint', 'reproduce'])
def test_help_is_quick_and_pure(run, tmp_path, name):
    assert 'usage:' in run(*tool(name, '-h'), cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ('config', 'options', 'row'),
    [
        (
            'configs/mask_rcnn_dysample.py',
            [
                'train_cfg.max_epochs=1',
                'train_dataloader.dataset.indices=1',
                'val_dataloader.dataset.indices=1',
                'model.test_cfg.rcnn.score_thr=0.0',
            ],
            'mask',
        ),
        (
            'configs/segformer_b1_dysample.py',
            ['train_cfg.max_iters=1', 'train_cfg.val_interval=1', 'val_dataloader.dataset.indices=1'],
            'mIoU',
        ),
    ],
)
def test_the_papers_models_on_real_images(forked, coco128, tmp_path, config, options, row):
    """Full-size images through the configs as they are, but for the batch and the pretrained weights."""
    roots = {'COCO_ROOT': coco128, 'ADE20K_ROOT': coco128 / 'ade_style'}
    common = ['model.backbone.init_cfg=None', 'train_dataloader.batch_size=1', 'train_dataloader.num_workers=1']
    printed = forked('train', config, '--work-dir', tmp_path / 'work', '--cfg-options', *common, *options, variables=roots)
    assert re.search(rf'[│┃] {row} +[│┃]', printed), printed[-2000:]


@pytest.mark.parametrize(
    ('config', 'options', 'upsampler', 'key'),
    [
        (FASTER, SHORT, 'SAPA-B', 'neck.upsample_modules.0.q.weight'),
        (
            SEGFORMER,
            [*SIZES, 'train_cfg.max_iters=2', 'train_cfg.val_interval=2'],
            "dict(type='FADE', gating=False)",
            'map_compressor.weight',
        ),
    ],
)
def test_an_upsampler_from_the_command_line(forked, tmp_path, config, options, upsampler, key):
    """It is trained, and both the saved config and the flag find it again."""
    work = tmp_path / 'work'
    printed = forked('train', config, '--upsampler', upsampler, '--work-dir', work, '--cfg-options', *options)
    checkpoint = (work / 'last_checkpoint').read_text()
    assert any(name.endswith(key) for name in torch.load(checkpoint, weights_only=False)['state_dict'])
    assert not any('gate' in name for name in torch.load(checkpoint, weights_only=False)['state_dict'])
    for arguments in ((work / Path(config).name, checkpoint), (config, checkpoint, '--upsampler', upsampler, '--cfg-options', *SIZES)):
        evaluated = forked('test', *arguments, '--work-dir', work)
        assert 'missing keys' not in printed + evaluated
        assert 'unexpected' not in evaluated


def test_a_fitted_matrix_trains(forked, tmp_path):
    matrix, work = tmp_path / 'matrix.pth', tmp_path / 'work'
    config = 'configs/shapes/dupsample_r50_shapes.py'
    printed = forked('fit_dupsample', config, '--scale-factor', 8, '--out', matrix, '--windows', 2000, '--cfg-options', *SIZES)
    code, nearest, bilinear = map(float, re.search(r'│ +([\d.]+) +│ +([\d.]+) +│ +([\d.]+) +│', printed).groups())
    assert code > bilinear + 5 > nearest + 10  # the codes tell thin parts that no other map of that size does
    options = [*BRIEF, f'model.decode_head.matrix={matrix}']
    forked('train', config, '--work-dir', work, '--cfg-options', *options)
    fitted = torch.load(matrix, weights_only=True)
    trained = torch.load(work / 'iter_2.pth', weights_only=False)['state_dict']['decode_head.dupsample.expand.weight']
    torch.testing.assert_close(trained[:, :, 0, 0], fitted['W'])
    assert fitted['classes'] == ['circle', 'square', 'triangle', 'wall', 'ground']
    # The checkpoint holds it from then on.
    matrix.unlink()
    resumed = forked('train', work / Path(config).name, '--resume', '--work-dir', work, '--cfg-options', 'train_cfg.max_iters=4')
    assert f'checkpoint: {work}/iter_4.pth' in resumed


def test_the_table_of_flops(forked):
    printed = forked('list_upsamplers', 'flops', '--format', 'csv')
    assert 'CARAFE,1.45,1.45' in printed.splitlines()


def test_a_converted_file_is_tested(forked, tmp_path):
    """Weights in the dress of mmdet 2, as the authors released theirs: a wrapper, a bias of the scope, no positions."""
    work, released, ours = tmp_path / 'work', tmp_path / 'released.pth', tmp_path / 'ours.pth'
    state = build_model(load_config(FASTER, {'model.neck.upsample_cfg.type': 'DySample+'})).state_dict()
    state = {f'module.{name}': value for name, value in state.items() if not name.endswith('init_pos')}
    state |= {f'module.neck.upsample_modules.{i}.scope.bias': torch.randn(32) for i in range(4)}
    torch.save({'state_dict': state, 'optimizer': {}, 'meta': {'config': 'x', 'CLASSES': ('circle', 'square', 'triangle')}}, released)
    printed = forked('convert_checkpoint', released, ours, '--config', FASTER, '--upsampler', 'DySample+')
    assert 'neck.upsample_modules.*.init_pos' in printed
    evaluated = forked('test', FASTER, ours, '--upsampler', 'DySample+', '--work-dir', work, '--cfg-options', *SIZES)
    assert '│ box ' in evaluated
    assert not re.search('warning: |unexpected key|missing keys', evaluated)


def test_deterministic_trainings_end_with_the_same_weights(forked, tmp_path):
    states = []
    for i in range(2):
        work = tmp_path / str(i)
        forked(
            'train',
            FASTER,
            '--work-dir',
            work,
            '--deterministic',
            '--cfg-options',
            *SHORT,
            'val_cfg=None',
            'val_dataloader=None',
            'val_evaluator=None',
        )
        assert load_config(str(work / Path(FASTER).name)).randomness == dict(seed=0, deterministic=True)
        states.append(torch.load(work / 'epoch_1.pth', weights_only=False)['state_dict'])
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    fresh = build_model(load_config(FASTER)).state_dict()
    assert not torch.equal(fresh['neck.upsample_modules.0.offset.weight'], states[0]['neck.upsample_modules.0.offset.weight'])


def test_what_is_not_deterministic_is_named(forked, tmp_path):
    """An operation of which torch knows no deterministic form, in a hook of the training."""
    module = tmp_path / 'shuffling.py'
    module.write_text(
        'import torch\nfrom mmengine.hooks import Hook\nfrom mmengine.registry import HOOKS\n\n'
        '@HOOKS.register_module()\nclass Shuffling(Hook):\n    def before_train_iter(self, *_, **__):\n'
        '        torch.zeros(2).put_(torch.tensor([0, 0]), torch.ones(2), accumulate=False)\n'
    )
    config = tmp_path / 'config.py'
    config.write_text(
        f"_base_ = {str(ROOT / FASTER)!r}\ncustom_imports = dict(imports=['shuffling'])\ncustom_hooks = [dict(type='mmengine.Shuffling')]\n"
    )
    arguments = (config, '--work-dir', tmp_path / 'work', '--deterministic', '--cfg-options', *SHORT)
    printed = forked('train', *arguments, variables={'PYTHONPATH': tmp_path}, code=2)
    assert 'put_ does not have a deterministic implementation' in printed
    assert 'leave out --deterministic' in printed
    assert 'Traceback' not in printed
