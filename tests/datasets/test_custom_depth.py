"""Depth maps of one's own: folders and names of files."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from mmdysample.datasets.check import prepare_data
from mmdysample.datasets.custom import Split, use_folder

pytest.importorskip('mmseg')
BOTH = {'train': Split(), 'val': Split()}


def rooms(shapes, root: Path, image='images/{}/{}.jpg', depth='annotations/{}/{}.png', names=('train', 'test')) -> Path:
    """Four scenes with depth, under names of their own."""
    for split, name in zip(('train', 'test'), names):
        for path in sorted((shapes / f'nyu/images/{split}').iterdir())[:4]:
            for source, pattern in ((path, image), (shapes / f'nyu/annotations/{split}/{path.name}', depth)):
                target = root / pattern.format(name, f'room_{path.stem}')
                target.parent.mkdir(parents=True, exist_ok=True)
                if target.suffix == source.suffix:
                    shutil.copy(source, target)
                else:
                    Image.open(source).save(target)
    return root


LAYOUTS = {
    'nyu': (dict(), BOTH),
    'png': (dict(image='images/{}/{}.png'), BOTH),
    'capitals': (dict(image='images/{}/{}.JPEG', depth='annotations/{}/{}.PNG'), BOTH),
    'val': (dict(names=('train', 'val')), BOTH),
    'training and validation': (dict(names=('training', 'validation')), BOTH),
    'named': (dict(depth='annotations/{}/{}_depth.png'), BOTH),
    'kitti': (dict(image='images/{}/0926/{}.jpg', depth='annotations/{}/0926/{}.png'), BOTH),
    'both differ': (dict(image='images/{}/{}_rgb.png', depth='annotations/{}/{}_d.png'), BOTH),
    'folders by flags': (
        dict(image='{}/{}.jpg', depth='{}_depth/{}.png', names=('left', 'right')),
        {'train': Split('left_depth', 'left'), 'val': Split('right_depth', 'right')},
    ),
    'one folder': (
        dict(image='{}/{}.jpg', depth='{}/{}.depth.png', names=('left', 'right')),
        {'train': Split('left', 'left'), 'val': Split('right', 'right')},
    ),
}


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('name', ['depth_swin_t_dysample.py', 'shapes/depth_swin_t_dysample_shapes.py'])
def test_folders_and_names_of_files(shapes, tmp_path, layout, name):
    arguments, splits = LAYOUTS[layout]
    cfg = Config.fromfile(f'configs/{name}')
    use_folder(cfg, str(rooms(shapes, tmp_path / "l'été", **arguments)), splits)
    cfg.dump(str(tmp_path / 'saved.py'))
    again = Config.fromfile(str(tmp_path / 'saved.py'))
    assert again.to_dict() == cfg.to_dict()
    prepare_data(again, ('train', 'val', 'test'))
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        assert len(built(again, loader)) == 4
    assert again.val_dataloader.batch_size == 1


def test_an_ending_that_is_asked_for_may_be_of_no_image(shapes, tmp_path):
    root = rooms(shapes, tmp_path)
    for path in sorted(root.glob('annotations/*/*.png')):
        np.save(path.with_suffix('.npy'), np.array(Image.open(path)))
        path.unlink()
    options = {f'{split}_dataloader.dataset.depth_map_suffix': '.npy' for split in ('train', 'val', 'test')}
    options |= {f'{split}_dataloader.dataset.pipeline.1.decode_backend': 'numpy' for split in ('train', 'val', 'test')}
    cfg = Config.fromfile('configs/depth_swin_t_dysample.py')
    use_folder(cfg, str(root), BOTH, options=options)
    prepare_data(cfg, ('train', 'val', 'test'))
    assert len(built(cfg, 'val_dataloader')) == 4


def built(cfg, loader):
    """The images of a loader, each of which has its depth map."""
    from mmengine.registry import init_default_scope
    from mmseg.registry import DATASETS

    init_default_scope('mmseg')
    dataset = DATASETS.build({**cfg[loader].dataset, 'pipeline': []})
    pairs = [dataset.get_data_info(i) for i in range(len(dataset))]
    assert all(Path(pair['depth_map_path']).is_file() for pair in pairs)
    return pairs


@pytest.mark.parametrize(
    ('harm', 'message'),
    [
        (
            lambda root: shutil.rmtree(root / 'annotations/test'),
            r'one annotations/test\*/ or annotations/val\*/, but holds none: give it with --val-ann',
        ),
        (lambda root: [f.unlink() for f in (root / 'images/train').iterdir()], 'there is no image in .*images/train'),
        (
            lambda root: [f.rename(f.with_name(f'd{f.name}')) for f in (root / 'annotations/train').iterdir()],
            'give each map the name of its image',
        ),
    ],
)
def test_what_is_wrong_with_a_folder_is_said(shapes, tmp_path, harm, message):
    root = rooms(shapes, tmp_path)
    harm(root)
    with pytest.raises(ValueError, match=message):
        use_folder(Config.fromfile('configs/depth_swin_t_dysample.py'), str(root), BOTH)


def test_depth_has_no_classes(shapes):
    with pytest.raises(ValueError, match='--classes is for label maps and COCO annotations'):
        use_folder(Config.fromfile('configs/depth_swin_t_dysample.py'), str(shapes / 'nyu'), BOTH, ['a'])
