"""docs/own-data.md: each folder tree is built, from pieces of Shapes, and each command on it finds its data there."""

import json
import re
import shlex
import shutil
from collections import Counter
from pathlib import Path

import pytest
from conftest import ROOT
from PIL import Image

from mmdysample.datasets.shapes import STUFF, THINGS
from mmdysample.engine.options import make_parser, read_config

PAGE = (ROOT / 'docs/own-data.md').read_text()
TREES = {name: lines.split() for name, lines in re.findall(r'```text\n(\w+)/\n((?: {4}\S+\n)+)```', PAGE)}
COMMANDS = [
    shlex.split(line.replace('\\\n', ' '))
    for block in re.findall(r'```bash\n(.*?)```', PAGE, flags=re.S)
    for line in re.findall(r'^python tools/train\.py (.*(?:\n +.*)*)', block, flags=re.M)
]
# Where Shapes has the images and the annotations of each layout.
IMAGES = {
    'coco': ('coco/train2017', 'coco/val2017'),
    'ade': ('ade/images/training', 'ade/images/validation'),
    'nyu': ('nyu/images/train', 'nyu/images/test'),
}
ANNOTATIONS = {
    'coco': ('coco/annotations/{}_train2017', 'coco/annotations/{}_val2017'),
    'ade': ('ade/annotations/training', 'ade/annotations/validation'),
    'nyu': ('nyu/annotations/train', 'nyu/annotations/test'),
}


def build(lines, layout: str, shapes: Path, root: Path) -> None:
    """Build a tree: of the lines of each kind, the first is of the training data and the second of the validation data."""
    image_ending = '.jpg' if any(line.endswith('.jpg') for line in lines) else '.png'
    seen: Counter[tuple[bool, str]] = Counter()
    for line in lines:
        path = root / line
        path.parent.mkdir(parents=True, exist_ok=True)
        annotates = any(word in line for word in ('annotations', 'labels', 'masks', 'depth'))
        source = (ANNOTATIONS if annotates else IMAGES)[layout][min(seen[annotates, path.suffix], 1)]
        source = shapes / source.format('panoptic' if 'panoptic' in line else 'instances')
        seen[annotates, path.suffix] += 1
        if path.name == 'classes.txt':
            path.write_text('\n'.join((*THINGS, *STUFF)))
        elif path.suffix == '.json':
            content = json.loads(source.with_suffix('.json').read_text())
            for image in content['images']:
                image['file_name'] = Path(image['file_name']).with_suffix(image_ending).name
            path.write_text(json.dumps(content))
        else:
            for file in source.iterdir():
                target = path.with_name(path.name.replace('*', file.stem))
                shutil.copy(file, target) if target.suffix == file.suffix else Image.open(file).save(target)


def test_the_page_has_a_tree_and_a_command_for_each_kind():
    assert len(TREES) >= 7
    used = {command[command.index('--data-root') + 1].removeprefix('~/') for command in COMMANDS if '--data-root' in command}
    assert used == set(TREES)


@pytest.mark.parametrize('command', COMMANDS, ids=lambda command: '-'.join(command[:1] + command[2:4]).replace('/', '.'))
def test_a_command_finds_its_data(command, shapes, tmp_path, monkeypatch, capsys):
    pytest.importorskip('mmdet')
    pytest.importorskip('mmseg')
    monkeypatch.setenv('HOME', str(tmp_path))
    name = command[command.index('--data-root') + 1].removeprefix('~/')
    layout = 'nyu' if 'depth' in command[0] else 'ade' if 'segformer' in command[0] else 'coco'
    build(TREES[name], layout, shapes, tmp_path / name)
    read_config(make_parser('').parse_args(command), ('train', 'val'))
    printed = capsys.readouterr().out
    assert printed.startswith(f'data: {tmp_path / name}\n')
    warnings = [line for line in printed.splitlines() if line.startswith('warning: ')]
    assert all('for which val_evaluator.crop_type=nyu_crop is made' in line for line in warnings), warnings  # our rooms are small
    assert ('classes: ' in printed) is (layout != 'nyu' and '/shapes/' not in command[0])
