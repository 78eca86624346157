import json

import pytest
import torch
from conftest import ROOT

from mmdysample.engine.config import load_config
from mmdysample.engine.upsampler import use_upsampler
from mmdysample.paper.reader import read_table
from mmdysample.pictures.loaded_model import load_model
from mmdysample.reproduction import gallery
from mmdysample.reproduction.closeup import busiest_window
from mmdysample.reproduction.gallery import draw_gallery
from mmdysample.reproduction.plan import Settings, plan


@pytest.fixture
def plans(tmp_path, monkeypatch):
    pytest.importorskip('mmseg')
    monkeypatch.setenv('SHAPES_ROOT', str(tmp_path / 'shapes'))
    options = {'shapes.train': 1, 'shapes.val': 2}
    return plan(read_table('boundary'), Settings('shapes', 2, tmp_path / 'results', options, ()), ['bilinear', 'DySample', 'SAPA-I'])


def pretend_to_train(training):
    """Leave what a training leaves, with the weights of the beginning."""
    training.folder.mkdir(parents=True)
    config = load_config(str(ROOT / 'configs/shapes/boundary.py'))
    config.shapes.update(train=1, val=2)
    use_upsampler(config, training.upsampler)
    config.dump(str(training.folder / training.config.name))
    torch.save({'state_dict': load_model(config).model.state_dict(), 'meta': {}}, training.folder / 'iter_1.pth')
    (training.folder / 'last_checkpoint').write_text('iter_1.pth')
    training.write_note(seconds=1.0, resumed=False, metrics={'mIoU': 10.0})


def test_nothing_complete_is_no_picture(plans):
    assert draw_gallery(plans) is None


def test_a_panel_for_each_row_that_is_complete(plans):
    pretend_to_train(plans[0].trainings[1])  # the second seed will do
    pretend_to_train(plans[2].trainings[0])
    figure = draw_gallery(plans, index=1)
    titles = [ax.get_title() for ax in figure.axes]
    assert [title for title in titles if title] == ['image', 'ground truth', 'bilinear', 'SAPA-I']
    assert json.loads((plans[0].trainings[1].folder / 'training.json').read_text())['metrics'] == {'mIoU': 10.0}
    image, truth, *_ = (ax.get_images()[0].get_array() for ax in figure.axes[:4])
    assert image.shape == truth.shape == (64, 64, 3)
    assert (image != truth).any()


def test_a_close_up_of_the_pixels_with_the_most_of_a_class(plans, monkeypatch):
    monkeypatch.setattr(gallery, 'CLOSE', 20)
    pretend_to_train(plans[0].trainings[0])
    figure = draw_gallery(plans, close_to='circle')
    panels = [ax for ax in figure.axes if ax.get_title()]
    windows = {(*ax.get_xlim(), *ax.get_ylim()) for ax in panels}
    assert len(windows) == 1
    left, right, bottom, top = windows.pop()
    assert (right - left, bottom - top) == (20, 20)
    assert [ax.get_title() for ax in panels] == ['image', 'ground truth', 'bilinear']


def test_a_row_without_its_checkpoint_is_not_drawn(plans):
    for one in plans[:2]:
        pretend_to_train(one.trainings[0])
    (plans[0].trainings[0].folder / 'iter_1.pth').unlink()
    assert [ax.get_title() for ax in draw_gallery(plans).axes if ax.get_title()] == ['image', 'ground truth', 'DySample']


def test_the_busiest_window_against_a_loop():
    mask = torch.rand(13, 17).numpy() < 0.3
    counts = {(top, left): mask[top : top + 5, left : left + 5].sum() for top in range(9) for left in range(13)}
    count, (top, left, size) = busiest_window(mask, 5)
    assert count == max(counts.values()) == counts[top, left]
    assert size == 5
    assert (top, left) == next(place for place, number in counts.items() if number == count)
    assert busiest_window(mask, 13)[1].left == max(range(5), key=lambda left: mask[:, left : left + 13].sum())
