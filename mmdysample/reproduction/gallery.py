"""Draw the predictions of the rows of a table for one image, side by side."""

from collections.abc import Sequence
from typing import Any, Optional

import torch

from mmdysample.engine.checkpoint import secure_loading
from mmdysample.engine.classes import class_names
from mmdysample.engine.config import load_config
from mmdysample.pictures.contents import Contents, ground_truth, prediction
from mmdysample.pictures.drawing import class_colours, draw_contents, legend_of
from mmdysample.pictures.image_input import build_test_set, image_of
from mmdysample.pictures.loaded_model import load_model
from mmdysample.pictures.picture import Picture
from mmdysample.terminal.progress import progress

from .closeup import Window, busiest_window
from .plan import Planned

ACROSS = 5
PANEL = 2.0  # inches
SCORE = 0.5
CLOSE = 64  # pixels


@torch.no_grad()
def draw_gallery(plans: Sequence[Planned], index: int = 0, close_to: str = '') -> Optional[Picture]:
    """Draw an image of the test set, its ground truth, and the predictions of each row's first complete training.

    Args:
        plans: The rows. A row whose results are kept without its checkpoint is left out.
        index: Index of the image in the test set.
        close_to: A class. Instead of an image, draw the 64x64 pixels of the test set in which it has the most pixels.

    Returns:
        The picture, or None if no training is complete.
    """
    complete = {one.row.name: next((t for t in one.trainings if 'metrics' in t.note() and t.has_checkpoints), None) for one in plans}
    done = {name: training for name, training in complete.items() if training is not None}
    if not done:
        return None
    secure_loading()
    panels: dict[str, Optional[Contents]] = {}
    for name, training in progress(list(done.items()), 'drawing predictions'):
        loaded = load_model(load_config(str(training.folder / training.config.name)), str(training.checkpoint()))
        if not panels:
            classes, palette = class_names(loaded.config)
            test_set = build_test_set(loaded)
            window: Optional[Window] = None
            if close_to:
                index, window = _closest(test_set, classes.index(close_to))
            item = image_of(loaded, test_set, index)
            panels = {'image': None, 'ground truth': ground_truth(item.data['data_samples'][0], len(classes))}
        with loaded.in_scope():
            sample: Any = loaded.model.test_step(item.data)[0]  # type: ignore[operator]
        panels[name] = prediction(sample, len(classes), SCORE)
    colours = class_colours(len(classes), palette)
    down = -(-len(panels) // ACROSS)
    figure = Picture(figsize=(PANEL * ACROSS, (PANEL + 0.2) * down + 0.4), layout='constrained')
    axes = figure.subplots(down, ACROSS, squeeze=False).ravel()
    for ax, (name, contents) in zip(axes, panels.items()):
        draw_contents(ax, item.pixels, contents, colours)
        ax.set_title(name, fontsize='small')
        if window is not None:
            ax.set(xlim=(window.left, window.left + window.size), ylim=(window.top + window.size, window.top))
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    figure.legend(handles=legend_of(list(panels.values()), classes, colours), loc='outside lower center', ncols=8, frameon=False)
    return figure


def _closest(test_set: Any, label: int) -> tuple[int, Window]:
    """Return the image, and the window in it, with the most pixels of a class."""
    truths = (test_set[i]['data_samples'].gt_sem_seg.data[0].numpy() == label for i in range(len(test_set)))
    found = [(*busiest_window(truth, CLOSE), i) for i, truth in enumerate(truths)]
    _, window, index = max(found, key=lambda one: one[0])
    return index, window
