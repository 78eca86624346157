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

from .plan import Planned

ACROSS = 5
PANEL = 2.0  # inches
SCORE = 0.5


@torch.no_grad()
def draw_gallery(plans: Sequence[Planned], index: int = 0) -> Optional[Picture]:
    """Draw an image of the test set, its ground truth, and the predictions of each row's first complete training.

    Args:
        plans: The rows.
        index: Index of the image in the test set.

    Returns:
        The picture, or None if no training is complete.
    """
    complete = {one.row.name: next((t for t in one.trainings if t.metrics is not None), None) for one in plans}
    done = {name: training for name, training in complete.items() if training is not None}
    if not done:
        return None
    secure_loading()
    panels: dict[str, Optional[Contents]] = {}
    for name, training in progress(list(done.items()), 'drawing predictions'):
        loaded = load_model(load_config(str(training.folder / training.config.name)), str(training.checkpoint()))
        if not panels:
            classes, palette = class_names(loaded.config)
            item = image_of(loaded, build_test_set(loaded), index)
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
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    figure.legend(handles=legend_of(list(panels.values()), classes, colours), loc='outside lower center', ncols=8, frameon=False)
    return figure
