"""A user's mistake ends in one line and exit code 2, whatever it is."""

import logging
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import PIL.Image
import pytest
import torch

from mmdysample.engine.config import load_config
from mmdysample.engine.model import build_model

FASTER = 'configs/faster_rcnn_dysample.py'
DEPTH = 'configs/depth_swin_t_dysample.py'
SHAPES = 'configs/shapes/faster_rcnn_dysample_shapes.py'
SEGFORMER = 'configs/shapes/segformer_b1_dysample_shapes.py'
SIZES = ['shapes.train=16', 'shapes.val=8']
# A loop over iterations starts its workers when it is built, and a loader that is deleted before it is used waits 5 s for each of them.
NO_WORKERS = ['train_dataloader.num_workers=0', 'train_dataloader.persistent_workers=False']


@pytest.fixture(autouse=True)
def _data(monkeypatch, shapes, tmp_path):
    monkeypatch.setattr(logging, 'raiseExceptions', False)  # mmengine's handler keeps the stream of an earlier test
    monkeypatch.setenv('SHAPES_ROOT', str(shapes))
    monkeypatch.setenv('COCO_ROOT', str(tmp_path / 'no-coco'))
    for name in ('TORCH_FORCE_WEIGHTS_ONLY_LOAD', 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', 'LOCAL_RANK', 'RANK'):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def refused(monkeypatch, capfd, tmp_path):
    """Run a tool that must refuse, and return its one line."""

    def run(tool, *arguments):
        monkeypatch.setattr(sys, 'argv', [f'tools/{tool}.py', *map(str, arguments), '--work-dir', str(tmp_path / 'work')])
        with pytest.raises(SystemExit) as exit_:
            runpy.run_path(f'tools/{tool}.py', run_name='__main__')
        assert exit_.value.code == 2
        errors = capfd.readouterr().err
        assert 'Traceback' not in errors
        lines = [line for line in errors.splitlines() if line.startswith('error: ')]
        assert len(lines) == 1
        assert errors.rstrip().endswith(lines[0])
        return lines[0]

    return run


@pytest.mark.parametrize('options', [['foo'], ['a.b=[1,']])
def test_options_that_are_no_pairs(monkeypatch, capfd, options):
    monkeypatch.setattr(sys, 'argv', ['tools/train.py', SHAPES, '--cfg-options', *options])
    with pytest.raises(SystemExit) as exit_:
        runpy.run_path('tools/train.py', run_name='__main__')
    assert exit_.value.code == 2
    assert '--cfg-options takes KEY=VALUE pairs' in capfd.readouterr().err


def test_missing_config(refused):
    assert 'there is no config configs/faster_rcnn.py; did you mean configs/' in refused('train', 'configs/faster_rcnn.py')


def test_missing_data(refused, tmp_path):
    line = refused('train', FASTER)
    assert f'there is no data folder {tmp_path}/no-coco' in line
    assert 'COCO_ROOT' in line
    assert 'configs/shapes/faster_rcnn_dysample_shapes.py' in line


def test_missing_depth(refused, monkeypatch, tmp_path, shapes):
    monkeypatch.setenv('NYU_ROOT', str(tmp_path / 'no-nyu'))
    line = refused('train', DEPTH)
    assert f'there is no data folder {tmp_path}/no-nyu. Set NYU_ROOT to the folder of your data' in line
    assert 'or try configs/shapes/depth_swin_t_dysample_shapes.py, which generates its own data' in line
    root = tmp_path / 'rooms'
    shutil.copytree(shapes / 'nyu', root)
    (root / 'annotations/train/000003.png').unlink()
    assert f'{root}/annotations/train: 1 depth maps are missing (such as 000003.png)' in refused('train', DEPTH, '--data-root', root)


def test_annotations_without_the_keys(refused, tmp_path, shapes):
    root = tmp_path / 'no-coco'
    shutil.copytree(shapes / 'coco', root)
    (root / 'annotations/instances_train2017.json').write_text('{"images": [], "info": {}}')
    assert 'is not in COCO format: it lacks annotations, categories' in refused('train', FASTER)


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ('model.neck.upsample_cfg.type=DySampel', "unknown upsampler 'DySampel' (did you mean 'DySample'"),
        ('model.neck.upsample_cfg.groups=3', 'in_channels must be divisible by groups, got in_channels=64, groups=3'),
        ('model.neck.upsample_cfg.group=4', "takes no argument 'group' (did you mean 'groups'?)"),
        ('model.neck.type=mmdysample.FNP', 'FNP'),
        ('model.neck.type=FPN', 'the stock FPN supports no upsample_cfg with a type; add model.neck.type=mmdysample.FPN'),
        ('model.neck.out_chanels=3', 'out_chanels'),
        ('train_cfg.epochs=3', 'epochs'),
        ('optim_wrapper.optimizer.type=Adamw', 'there is no optimizer Adamw; did you mean Adam'),
        ('modle.neck.type=FPN', "has a key 'modle'; did you mean model?"),
        ('load_from=nowhere.pth', 'there is no checkpoint nowhere.pth'),
        ('data_root=elsewhere', 'has used this variable already'),
        ('shapes.root=elsewhere', 'or SHAPES_ROOT for folders'),
        ('shapes.trian=16', 'shapes takes train, val, size, seed and root, got trian'),
        ('shapes.size=4', 'size >= 32'),
        ('shapes.train=17', 'does not hold the Shapes scenes that the config asks for'),
    ],
)
def test_bad_option(refused, option, message):
    sizes = [] if option.startswith('shapes.train') else SIZES
    assert message in refused('train', SHAPES, '--cfg-options', *sizes, option)


@pytest.fixture
def without_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)


@pytest.mark.usefixtures('without_gpu')
def test_amp_without_a_gpu(refused):
    assert '--amp needs a GPU' in refused('train', SHAPES, '--amp', '--cfg-options', *SIZES)


@pytest.mark.usefixtures('without_gpu')
def test_launcher_without_torchrun(refused):
    assert 'use tools/dist_train.sh' in refused('train', SHAPES, '--launcher', 'pytorch', '--cfg-options', *SIZES)


def test_data_flags_without_the_folder(refused):
    assert 'go with --data-root' in refused('train', SHAPES, '--val-ann', 'x.json', '--cfg-options', *SIZES)


@pytest.mark.parametrize(('content', 'message'), [(b'hello', 'is not a complete checkpoint'), (None, 'there is no checkpoint')])
@pytest.mark.parametrize('tool', [('test',), ('visualize', 'predictions')])
def test_broken_checkpoint(refused, tmp_path, tool, content, message):
    path = tmp_path / 'x.pth'
    if content is not None:
        path.write_bytes(content)
    assert message in refused(*tool, SHAPES, path, '--cfg-options', *SIZES)


def test_a_checkpoint_of_another_model(refused, tmp_path):
    torch.save({'state_dict': {'weight': torch.zeros(1)}}, tmp_path / 'x.pth')
    assert 'is not a checkpoint of this model' in refused('test', SHAPES, tmp_path / 'x.pth', '--cfg-options', *SIZES)


def test_predictions_need_a_pickle(refused, tmp_path):
    torch.save({'weight': torch.zeros(1)}, tmp_path / 'x.pth')
    assert '--out must end in .pkl' in refused('test', SHAPES, tmp_path / 'x.pth', '--out', 'x.json', '--cfg-options', *SIZES)


def test_predictions_take_the_place_of_no_other_file_and_are_not_lost_at_the_end(refused, tmp_path):
    torch.save({'weight': torch.zeros(1)}, tmp_path / 'x.pth')
    kept, folder = tmp_path / 'kept.pkl', tmp_path / 'folder.pkl'
    kept.write_bytes(b'mine')
    folder.mkdir()
    for out, message in (
        (kept, f'{kept} exists: choose another --out, or overwrite it with --force'),
        (folder, f'--out must be a file, got the folder {folder}'),
        (kept / 'new/x.pkl', f'--out cannot be saved in {kept}, which is a file'),
    ):
        assert message in refused('test', SHAPES, tmp_path / 'x.pth', '--out', out, '--cfg-options', *SIZES)
    assert kept.read_bytes() == b'mine'
    told = refused('test', SHAPES, tmp_path / 'x.pth', '--out', kept, '--force', '--cfg-options', *SIZES, 'test_evaluator=None')
    assert f'--out needs a test_evaluator, which {SHAPES} lacks' in told


def test_a_picture_needs_a_format(refused, tmp_path):
    assert '--out must end in one of .png' in refused('visualize', 'sampling', SHAPES, '--out', 'x.foo', '--cfg-options', *SIZES)


def test_a_picture_takes_the_place_of_no_other_unless_it_is_forced_to(refused, monkeypatch, tmp_path):
    photo, default = tmp_path / 'photo.png', tmp_path / 'work/sampling.png'
    default.parent.mkdir()
    for path in (photo, default):
        PIL.Image.new('RGB', (60, 40)).save(path)
    before = photo.read_bytes()
    arguments = ['sampling', SHAPES, '--image', str(photo), '--cfg-options', *SIZES]
    assert f'{photo} exists: choose another --out, or overwrite it with --force' in refused('visualize', *arguments, '--out', str(photo))
    assert f'{default} exists: ' in refused('visualize', *arguments)
    assert photo.read_bytes() == default.read_bytes() == before
    monkeypatch.setattr(sys, 'argv', ['visualize.py', *arguments, '--force', '--out', str(default)])
    runpy.run_path('tools/visualize.py', run_name='__main__')
    assert default.read_bytes() != before
    assert list(default.parent.iterdir()) == [default]


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (
            ['sampling', SEGFORMER, '--module', 'neck'],
            "has no DySample 'neck' that sees the whole image; it has decode_head.upsample_",
        ),
        (['sampling', SEGFORMER, '--upsampler', 'CARAFE'], 'the model has no DySample that sees the whole image; add one with'),
        (['sampling', SEGFORMER, '--pixels', '3,4', '128,0'], '--pixels 128,0 is outside of 000000.png, which has 128x128 pixels'),
        (['sampling', SEGFORMER, '--index', '8'], 'has the images 0 to 7, got --index 8'),
        (['features', SEGFORMER, '--upsamplers', 'Dysampel'], "unknown upsampler 'Dysampel' (did you mean"),
        (['features', SEGFORMER, '--image', 'nowhere.png'], 'there is no image nowhere.png'),
        (['predictions', SEGFORMER, '--image', 'README.md'], 'mmcv cannot read the image README.md'),
        (['predictions', SEGFORMER, '--against', SHAPES, 'nowhere.pth'], 'there is no checkpoint nowhere.pth'),
        (
            ['sampling', FASTER, '--image', 'x.jpg', '--cfg-options', 'model.backbone.init_cfg.checkpoint=http://127.0.0.1:9/x.pth'],
            'init_cfg=None',
        ),
    ],
)
def test_pictures(refused, arguments, message):
    sizes = [] if arguments[1] == FASTER else ['--cfg-options', *SIZES]
    assert message in refused('visualize', *arguments, *sizes)


def test_a_checkpoint_that_a_picture_cannot_show(refused, tmp_path):
    torch.save({'state_dict': {'weight': torch.zeros(1)}}, tmp_path / 'x.pth')
    assert 'is not a checkpoint of this model' in refused('visualize', 'sampling', SHAPES, tmp_path / 'x.pth', '--cfg-options', *SIZES)


@pytest.mark.parametrize('picture', ['sampling', 'features', 'predictions'])
@pytest.mark.parametrize(
    ('config', 'options', 'why'),
    [(SHAPES, ['test_dataloader.dataset.pipeline.1.scale_factor=0.1'], 'inv_scale_x'), (SEGFORMER, [], 'Kernel size')],
)
def test_an_image_that_a_model_cannot_take(refused, tmp_path, picture, config, options, why):
    PIL.Image.new('RGB', (4000, 2)).save(tmp_path / 'wide.png')
    line = refused('visualize', picture, config, '--image', tmp_path / 'wide.png', '--cfg-options', *SIZES, *options)
    assert 'the model does not accept ' in line
    assert 'wide.png of 4000x2 pixels' in line
    assert why in line


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.makedirs, (str(self.path), 0o777, True)


def test_the_second_checkpoint_of_a_picture_is_data_unless_it_is_trusted(refused, monkeypatch, tmp_path):
    trap, bomb, out = tmp_path / 'trap', tmp_path / 'bomb.pth', tmp_path / 'out.png'
    torch.save({'state_dict': build_model(load_config(SHAPES)).state_dict(), 'hook': Bomb(trap)}, bomb)
    arguments = ['predictions', SHAPES, '--count', '1', '--out', str(out), '--cfg-options', *SIZES, '--against', SHAPES, str(bomb)]
    assert f'{bomb} holds more than data: ' in refused('visualize', *arguments)
    assert not trap.exists()
    assert not out.exists()
    monkeypatch.setattr(sys, 'argv', ['visualize.py', *arguments, '--trust-checkpoint'])
    runpy.run_path('tools/visualize.py', run_name='__main__')
    assert trap.exists()
    assert out.exists()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ([SHAPES, 'x.pth'], 'sampling, features, predictions'),
        (['sampling', SHAPES, '--pixels', '1;2'], 'takes x,y, two non-negative integers'),
        (['predictions', SHAPES, '--score', '50'], 'takes a number from 0 to 1, got 50'),
        (['predictions', SHAPES, '--score', 'nan'], 'takes a number from 0 to 1, got nan'),
    ],
)
def test_usage_of_pictures(monkeypatch, capfd, arguments, message):
    monkeypatch.setattr(sys, 'argv', ['visualize.py', *arguments])
    with pytest.raises(SystemExit) as exit_:
        runpy.run_path('tools/visualize.py', run_name='__main__')
    assert exit_.value.code == 2
    assert message in capfd.readouterr().err.replace("'", '')


def test_drawings_need_a_folder(refused, tmp_path):
    torch.save({'weight': torch.zeros(1)}, tmp_path / 'x.pth')
    assert 'takes a folder' in refused('test', SHAPES, tmp_path / 'x.pth', '--show-dir', 'README.md', '--cfg-options', *SIZES)


def test_an_earlier_run_is_not_overwritten(refused, tmp_path):
    (tmp_path / 'work').mkdir()
    (tmp_path / 'work/epoch_1.pth').write_bytes(b'precious')
    assert 'holds epoch_1.pth of an earlier run: continue that run with --resume' in refused('train', SHAPES, '--cfg-options', *SIZES)
    assert (tmp_path / 'work/epoch_1.pth').read_bytes() == b'precious'


def test_a_folder_that_another_training_writes_to(refused, tmp_path):
    (tmp_path / 'work').mkdir()
    held = 'import pathlib, sys; from mmdysample.engine.files import hold; hold(pathlib.Path(sys.argv[1])); print(1, flush=True); input()'
    command = [sys.executable, '-c', held, str(tmp_path / 'work')]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        assert f'another training writes to {tmp_path / "work"}' in refused('train', SHAPES, '--cfg-options', *SIZES)
        process.stdin.close()


def test_a_script_names_a_missing_config():
    done = subprocess.run(['tools/dist_train.sh', 'configs/nope.py', '2'], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, 'error: there is no config configs/nope.py\n')


@pytest.mark.parametrize('arguments', [['tools/dist_train.sh', SHAPES, 'two'], ['tools/dist_test.sh', SHAPES, 'x.pth', '0']])
def test_a_script_takes_a_number_of_processes(arguments):
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, f'error: GPUS must be a positive integer, got {arguments[-1]}\n')


@pytest.mark.slow
@pytest.mark.parametrize(
    ('config', 'missing'), [(SHAPES, 'mmdet'), (FASTER, 'mmdet'), ('configs/shapes/segformer_b1_dysample_shapes.py', 'mmseg')]
)
def test_a_framework_that_is_not_installed(config, missing, tmp_path):
    code = (
        f'import runpy, sys; sys.modules[{missing!r}] = None; '
        f"sys.argv = ['train.py', {config!r}, '--work-dir', {str(tmp_path)!r}]; "
        "runpy.run_path('tools/train.py', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert 'Traceback' not in done.stderr
    assert f'{config} needs {missing}, which is not installed. Run: pip install' in done.stderr


def test_unknown_upsampler(refused):
    assert "unknown upsampler 'Dysampel+' (did you mean 'DySample+'" in refused('train', SHAPES, '--upsampler', 'Dysampel+')
    line = refused('test', SEGFORMER, 'some.pth', '--upsampler', "dict(type='FADE', gate=False)")
    assert "FADE takes no argument 'gate' (did you mean 'gating'?)" in line


def test_a_model_that_takes_no_upsampler(refused):
    line = refused('train', 'configs/shapes/dupsample_r50_shapes.py', '--upsampler', 'CARAFE')
    assert '--upsampler: no module in the model of' in line
    assert 'model.neck.type=mmdysample.FPN' in line


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['configs/nowhere.py', '--scale-factor', '8'], 'there is no config configs/nowhere.py'),
        ([SHAPES, '--scale-factor', '8'], 'loads no semantic label maps: use a config of mmsegmentation'),
        ([SEGFORMER, '--scale-factor', '0'], '--scale-factor must be a positive integer, got 0'),
        ([SEGFORMER, '--scale-factor', '512'], 'no label map is as large as a window of 512x512'),
        ([SEGFORMER, '--scale-factor', '2', '--channels', '64'], 'channels must be at most the number of windows'),
        ([SEGFORMER], 'has no DUpsampleHead that sets scale_factor: give --scale-factor'),
    ],
)
def test_fitting_a_matrix(monkeypatch, capfd, tmp_path, arguments, message):
    monkeypatch.setattr(
        sys, 'argv', ['fit_dupsample.py', *arguments, '--out', str(tmp_path / 'w.pth'), '--windows', '50', '--cfg-options', *SIZES]
    )
    with pytest.raises(SystemExit) as exit_:
        runpy.run_path('tools/fit_dupsample.py', run_name='__main__')
    assert exit_.value.code == 2
    errors = capfd.readouterr().err
    assert message in errors
    assert 'Traceback' not in errors
    assert not (tmp_path / 'w.pth').exists()


def test_a_matrix_of_a_cascade_and_of_concatenated_data(run_tool, tmp_path):
    """The head that predicts gives the scale factor, and all parts of the data give windows."""
    from mmdysample.engine.dupsample_fit import label_dataset

    config = tmp_path / 'cascade.py'
    base = Path('configs/shapes/dupsample_r50_shapes.py').resolve()
    config.write_text(f"""_base_ = '{base}'
model = dict(decode_head=[dict(type='FCNHead'), {{{{_base_.model.decode_head}}}}])
train_dataloader = dict(dataset=dict(_delete_=True, type='ConcatDataset', datasets=[{{{{_base_.train_dataloader.dataset}}}}] * 2))
""")
    run_tool('fit_dupsample', config, '--windows', '600', '--out', tmp_path / 'w.pth', '--cfg-options', *SIZES)
    assert torch.load(tmp_path / 'w.pth', weights_only=True)['scale_factor'] == 8
    train = label_dataset(load_config(str(config)), 'train')  # of the scenes that are there now
    assert len(train) == 2 * len(train.datasets[0]) > 0


def test_a_matrix_is_not_overwritten(monkeypatch, capfd, tmp_path):
    kept = tmp_path / 'kept.pth'
    kept.write_text('mine')
    monkeypatch.setattr(sys, 'argv', ['fit_dupsample.py', SEGFORMER, '--scale-factor', '8', '--out', str(kept), '--cfg-options', *SIZES])
    with pytest.raises(SystemExit):
        runpy.run_path('tools/fit_dupsample.py', run_name='__main__')
    assert 'kept.pth exists: remove it, or choose another --out' in capfd.readouterr().err
    assert kept.read_text() == 'mine'


@pytest.mark.parametrize('upsampler', [None, 'DUpsample'])
def test_a_matrix_that_is_none(refused, tmp_path, upsampler):
    broken = tmp_path / 'broken.pth'
    broken.write_text('text')
    for path, message in (('nowhere.pth', 'there is no matrix file nowhere.pth'), (broken, 'was not written by tools/fit_dupsample.py')):
        if upsampler:
            line = refused('train', SHAPES, '--upsampler', f"dict(type='DUpsample', matrix='{path}')", '--cfg-options', *SIZES)
        else:
            config = 'configs/shapes/dupsample_r50_shapes.py'
            line = refused('train', config, '--cfg-options', *SIZES, *NO_WORKERS, f'model.decode_head.matrix={path}')
        assert message in line


def test_a_head_of_another_stride(refused):
    options = [*SIZES, *NO_WORKERS, 'model.decode_head.scale_factor=16']
    assert 'scale_factor=16 makes logits of' in refused('train', 'configs/shapes/dupsample_r50_shapes.py', '--cfg-options', *options)
