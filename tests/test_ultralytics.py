"""Ultralytics by its own ``train``, ``val``, ``predict`` and ``export``, in the environment that ``make test-foreign`` makes.

To test another version, put its folder into ``PYTHONPATH``. Version 8.0.200 also needs
``TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1``, and numpy 2.3 or older.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BESIDE = Path(sys.prefix) / 'ultralytics'
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not BESIDE.is_dir() and find_spec('ultralytics') is None,
        reason='Ultralytics is not installed (make test-foreign has its own environment for it)',
    ),
]


def environment(folder):
    paths = [str(ROOT / 'tests/foreign'), str(ROOT), os.environ.get('PYTHONPATH', ''), str(BESIDE)]
    settings = {'YOLO_CONFIG_DIR': str(folder), 'YOLO_OFFLINE': 'true', 'YOLO_AUTOINSTALL': 'false', 'MPLBACKEND': 'agg'}
    return {**os.environ, **settings, 'PYTHONPATH': os.pathsep.join(filter(None, paths))}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('ultralytics')


@pytest.fixture(scope='module')
def step(folder):
    """Run a step of ``tests/foreign/steps.py`` in a process of its own."""

    def run(*arguments, **variables):
        command = [sys.executable, str(ROOT / 'tests/foreign/steps.py'), *map(str, arguments)]
        done = subprocess.run(command, env={**environment(folder), **variables}, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f'{done.stdout[-2000:]}\n{done.stderr[-4000:]}'
        return json.loads(done.stdout.splitlines()[-1])

    return run


@pytest.fixture(scope='module')
def data(folder, request):
    """The first 16 images of coco128 in Ultralytics' layout or, where that is absent, of Shapes."""
    try:
        root = request.getfixturevalue('coco128')
    except pytest.skip.Exception:
        root = request.getfixturevalue('shapes') / 'coco'
    content = json.loads((root / 'annotations/instances_train2017.json').read_text())
    classes = {category['id']: i for i, category in enumerate(content['categories'])}
    (folder / 'images').mkdir()
    (folder / 'labels').mkdir()
    for image in content['images'][:16]:
        shutil.copy(root / 'train2017' / image['file_name'], folder / 'images')
        lines = []
        for note in content['annotations']:
            if note['image_id'] == image['id']:
                x, y, w, h = note['bbox']
                box = (x + w / 2) / image['width'], (y + h / 2) / image['height'], w / image['width'], h / image['height']
                lines.append(' '.join(map(str, (classes[note['category_id']], *box))))
        (folder / 'labels' / f'{Path(image["file_name"]).stem}.txt').write_text('\n'.join(lines))
    names = '\n'.join(f'  {i}: {category["name"]}' for i, category in enumerate(content['categories']))
    file = folder / 'data.yaml'
    file.write_text(f'path: {folder}\ntrain: images\nval: images\nnames:\n{names}\n')
    return file


@pytest.fixture(scope='module')
def stock(step):
    return 'yolo11n' if tuple(map(int, step('version').split('.')[:2])) >= (8, 3) else 'yolov8n'


@pytest.fixture(scope='module')
def trained(step, data, stock):
    result = step('train', data, f'{stock}-dysample.yaml', 'trained')
    assert result['heavy'] == []
    return data.parent / 'trained/weights/best.pt'


def assert_rows(upsamplers):
    """Two rows that have moved from their initial values, where all biases are 0."""
    assert len(upsamplers) == 2
    for module, bias in upsamplers.values():
        assert module == 'mmdysample.ultralytics'
        assert bias > 0


def test_a_checkpoint_holds_its_rows_in_a_new_process(step, data, trained):
    result = step('load', data, trained)
    assert result['imported']
    assert result['rows'] == [[-1, 1, 'DySample', [2]]] * 2
    assert_rows(result['upsamplers'])
    assert result['val'] > 0
    assert result['predicted'] == 16


def test_fine_tuning_starts_from_the_trained_rows(step, data, trained):
    result = step('fine_tune', data, trained)
    assert_rows(result['after'])
    for name, (_, bias) in result['after'].items():
        assert bias == pytest.approx(result['before'][name][1], rel=1e-2)


def test_resuming_in_a_new_process_goes_on(step, data, stock):
    step('interrupt', data, f'{stock}-dysample.yaml')
    result = step('resume', data.parent / 'interrupted/weights/last.pt')
    assert result['epoch'] == 1
    assert_rows(result['before'])
    assert_rows(result['after'])


def test_exported_files_agree(step, data, trained):
    for form, difference in step('export', data, trained).items():
        assert difference < 1e-5, form


def test_rtdetr(step, data):
    text = (ROOT / 'mmdysample/ultralytics/models/rtdetr-l-dysample.yaml').read_text(encoding='utf-8')
    small = data.parent / 'rtdetr-small.yaml'
    small.write_text(text.replace('[1.00, 1.00, 1024]', '[0.17, 0.25, 1024]').replace('[nc]', '[nc, 64, 100, 4, 4, 1]'))
    step('train', data, small, 'rtdetr', 1)
    weights = data.parent / 'rtdetr/weights/best.pt'
    assert_rows(step('load', data, weights)['upsamplers'])
    assert max(step('export', data, weights).values()) < 1e-4


def test_replaced_then_trained(step, data, stock):
    step('train', data, f'{stock}.yaml', 'stock', 1)
    result = step('replace', data, data.parent / 'stock/weights/last.pt')
    assert result['warnings'] == []
    assert result['written'] == [[-1, 1, 'DySample', [2]]] * 2
    assert result['restored']
    assert result['with config'] == [[-1, 1, 'DySample', [2, {'groups': 2}]]] * 2
    for upsamplers in (result['upsamplers'], step('load', data, data.parent / 'replaced/weights/best.pt')['upsamplers']):
        assert_rows(upsamplers)
        assert all(bias == pytest.approx(0.25, abs=0.01) for _, bias in upsamplers.values())


def test_a_replaced_checkpoint_is_trained_in_a_new_process(step, data):
    replaced = data.parent / 'replaced.pt'
    if not replaced.is_file():
        pytest.skip('test_replaced_then_trained, which makes the checkpoint, did not run')
    result = step('fine_tune', data, replaced)
    assert len(result['before']) == 2
    assert all(bias == pytest.approx(0.25, abs=0.001) for _, bias in result['after'].values())
    assert result['rows'] == [[-1, 1, 'DySample', [2]]] * 2


def test_replacing_an_untrained_model_names_what_to_train(step, stock):
    said = step('replace_untrained')
    assert f'train {stock}-dysample.yaml' in said['DySample'][0]
    assert re.search(r'or save the model with (model\.save\(|torch\.save\(\{.model.: model\.model\}, ).replaced\.pt', said['DySample'][0])
    assert "a copy of it with [-1, 1, 'CARAFE', [2]] as row 11, [-1, 1, 'CARAFE', [2]] as row" in said['CARAFE'][0]
    assert said['class'] == said['DySample'] == said['scoped']
    assert "a copy of it with [-1, 1, 'DySample', [2]] as row " in said['one'][0]
    assert said['around'] == []
    assert 'no row can say' in said['nearest'][0]
    assert 'needs the network of YOLO' in said['wrapper']


def test_every_upsampler_is_a_row(step):
    built = step('build_rows')
    dysample = ['DySample', 'DySample+', 'DySample-S', 'DySample-S+']
    assert list(built) == ['pixel_shuffle', 'CARAFE', 'DLU', 'DUpsample', *dysample, 'FRFU', 'LDA-AQU']
    for name, (same, channels) in built.items():
        assert same, name
        assert channels == [256, 128]


ROWS = {
    '[-1, 1, "DySample", [2, "pl"]]': "DySample 256, scale_factor=2, style='pl', groups=4, dyscope=False",
    '[-1, 1, "DySample", ["2"]]': "DySample 256, scale_factor=2, style='lp', groups=4, dyscope=False",
    '[-1, 1, "DySample", [2, "lp", 8, true]]': "DySample 256, scale_factor=2, style='lp', groups=8, dyscope=True",
    '[-1, 1, "DySample", [2, {"groups": 8}]]': "DySample 256, scale_factor=2, style='lp', groups=8, dyscope=False",
    '[-1, 1, "DySample", [256]]': 'without channels, which are inferred; the first is the ratio, from 1 to 8, got [256]',
    '[-1, 1, "DySample", [256, 2, "lp"]]': 'the first is the ratio',
    '[-1, 1, "DySample", ["None", 2]]': 'the first is the ratio, from 1 to 8, got [None, 2]',
    '[-1, 1, "DySample", [true]]': 'the first is the ratio',
    '[-1, 1, "DySample", [2, "n"]]': "takes the text 'n' by name",
    '[-1, 1, "DUpsample", [2, "/data/w.pth"]]': "takes the text '/data/w.pth' by name",
    '[-1, 1, "DySample", 2]': 'a list of arguments, got -1, 2',
    '[-1, 1, "DySample", [2, {"grups": 8}]]': "got 'grups'",
    '[-1, 1, "DySample", [2, {"in_channels": 8}]]': "got 'in_channels'",
    '[-1, 1, "DySample", [2, {"scale_factor": 4}]]': "got 'scale_factor'",
    '[-1, 1, "DySample-S", [2, "pl"]]': 'DySample-S: the arguments of a row are [scale_factor]',
    '[-1, 1, "DySample", [2, "lp", 3]]': 'in_channels must be divisible by groups',
    '[-1, 1, "dysample", []]': "did you mean 'DySample'",
    '[[-1, 4], 1, "DySample", []]': 'takes one map',
    '[-1, 1, "FADE", []]': 'FADE is guided',
}


def test_arguments_of_rows(step):
    for expected, got in zip(ROWS.values(), step('build_arguments', *ROWS), strict=True):
        assert expected in got
        assert got.startswith('error: ') == ('scale_factor=2' not in expected)


def test_channels_follow_the_input(step):
    assert step('parse', -1, 6, -2) == [[True, [256, 128]], [True, [128, 128]], [True, [256, 384]]]


def test_channels_follow_the_scale(step):
    found = step('build_scales')
    for name, (like_stock, _) in found.items():
        assert like_stock, name
    channels = {name: channels for name, (_, channels) in found.items()}
    assert channels['yolov8n-dysample.yaml'] == [256, 128]
    assert channels['yolov8m-dysample.yaml'] == [576, 384]
    assert channels['rtdetr-l-dysample.yaml'] == [256, 256]
    assert channels.get('yolo11x-seg-dysample.yaml', [768, 768]) == [768, 768]


def test_fused_halved_and_compiled(step):
    result = step('transform')
    assert result['fused'] < 1e-4
    assert result['halved'] < 1e-2
    assert result['compiled'] < 1e-5


def test_a_class_of_the_user_is_a_row(step):
    assert step('foreign_class') == 2


def test_several_processes_know_the_rows(step, data):
    assert_rows(step('several_processes', data))


def test_the_command_trains(folder, data, stock):
    words = {'model': f'{stock}-dysample.yaml', 'data': data, 'epochs': 1, 'imgsz': 64, 'batch': 16, 'workers': 0, 'device': 'cpu'}
    words |= {'plots': False, 'val': False, 'project': folder, 'name': 'command', 'exist_ok': True}
    command = [sys.executable, '-m', 'mmdysample.ultralytics', 'train', *(f'{key}={value}' for key, value in words.items())]
    done = subprocess.run(command, env=environment(folder), cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (folder / 'command/weights/last.pt').is_file()


def test_safe_loading_accepts_rows(step, data, trained):
    files = [file for file in (trained, data.parent / 'replaced.pt') if file.is_file()]
    found = step('load_safely', *files, ULTRALYTICS_SAFE_LOAD='1')
    if not found:
        pytest.skip('this version of Ultralytics has no ULTRALYTICS_SAFE_LOAD')
    assert len(found) == len(files)
    for upsamplers in found:
        assert_rows(upsamplers)
