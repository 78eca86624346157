"""Draw the predictions of one or two models beside the ground truth."""

from collections.abc import Sequence
from typing import Any, Optional

import numpy as np
import torch
from matplotlib.colors import Normalize

from mmdysample.engine.classes import class_names
from mmdysample.terminal.text import short

from .contents import Contents, DepthMap, ground_truth, prediction
from .drawing import class_colours, draw_contents, legend_of
from .image_input import ImageInput, build_test_set, image_of, read_image
from .loaded_model import LoadedModel
from .picture import Picture

PANEL = 2.3  # minimum width of a panel in inches


@torch.no_grad()
def draw_predictions(
    loaded: LoadedModel,
    against: Optional[LoadedModel] = None,
    image: Optional[str] = None,
    count: int = 6,
    score: float = 0.5,
) -> Picture:
    """Draw images with their annotations and with the predictions of one or two models.

    In a notebook::

        from .loaded_model import load_model
        from .predictions import draw_predictions
        draw_predictions(load_model('configs/shapes/faster_rcnn_dysample_shapes.py', 'work_dirs/.../epoch_8.pth'), count=3)

    Args:
        loaded: The model. The images are from the test set of its config.
        against: Another model for the same images.
        image: An image file without ground truth; by default, the first images of the test set.
        count: Number of images of the test set.
        score: Minimum score of a detection.

    Returns:
        A column for each image, with a row for the ground truth (or the image) and one for each model. All depth maps share one scale.

    Raises:
        ValueError: There is no such image, the data is missing, a model lacks weights, or the two models have different classes or kinds
            of predictions.
    """
    models = [loaded] if against is None else [loaded, against]
    for model in models:
        model.check_complete()
    classes, palette = class_names(loaded.config)
    if against is not None and class_names(against.config)[0] != classes:
        raise ValueError(f'the two models have different classes: {short(classes)}; and {short(class_names(against.config)[0])}')
    if image is not None:
        shown = [read_image(loaded, image)]
        truths: list[Optional[Contents]] = [None]
    else:
        dataset = build_test_set(loaded)
        shown = [image_of(loaded, dataset, i) for i in range(min(count, len(dataset)))]
        truths = [ground_truth(item.data['data_samples'][0], len(classes)) for item in shown]
    rows = {'ground truth' if image is None else 'image': truths}
    for model in models:
        inputs = shown if model is loaded else [read_image(model, item.path) for item in shown]
        rows[_unique(model.title.replace(' · ', '\n'), rows)] = [_predict(model, item, len(classes), score) for item in inputs]
    kinds = {type(row[0]) for row in list(rows.values())[1:]}
    if len(kinds) > 1:
        raise ValueError(f'the two models have different kinds of predictions: {" and ".join(sorted(kind.__name__ for kind in kinds))}')
    return _draw(shown, rows, classes, class_colours(len(classes), palette), score)


def _predict(model: LoadedModel, item: ImageInput, classes: int, score: float) -> Contents:
    with model.in_scope(), item.named():
        sample: Any = model.model.test_step(item.data)[0]  # type: ignore[operator]
    return prediction(sample, classes, score)


def _draw(
    shown: Sequence[ImageInput], rows: dict[str, list[Optional[Contents]]], classes: Sequence[str], colours: np.ndarray, score: float
) -> Picture:
    everything = [contents for row in rows.values() for contents in row]
    depths = [contents.metres for contents in everything if isinstance(contents, DepthMap)]
    scale = Normalize(min(map(np.nanmin, depths)), max(map(np.nanmax, depths))) if depths else None
    legend = legend_of(everything, classes, colours)
    aspect = min(max(item.pixels.shape[0] / item.pixels.shape[1] for item in shown), 1.5)
    # The panels of a single image are side by side.
    across, down = (len(shown), len(rows)) if len(shown) > 1 else (len(rows), 1)
    panel = min(4.0, max(PANEL, 9 / across))
    rows_of_legend = -(-len(legend) // max(1, int(panel * across / 1.4)))
    size = panel * across + 0.5 + (0.8 if depths else 0), panel * aspect * down + 0.5 + 0.25 * rows_of_legend
    figure = Picture(figsize=size, layout='constrained')
    axes = figure.subplots(down, across, squeeze=False)
    bar = None
    for k, (label, row) in enumerate(rows.items()):
        line = axes[k] if len(shown) > 1 else axes[0, k : k + 1]
        for ax, item, contents in zip(line, shown, row):
            bar = draw_contents(ax, item.pixels, contents, colours, scale) or bar
        if len(shown) > 1:
            line[0].set_ylabel(label, fontsize='small')
        else:
            line[0].set_title(label, fontsize='small')
    for ax, item in zip(axes[0], shown):
        name = item.name if len(item.name) < 28 else f'...{item.name[-24:]}'
        ax.set_title(name if len(shown) > 1 else f'{name}\n{ax.get_title()}', fontsize='small')
    if bar is not None:
        figure.colorbar(bar, ax=axes, label='depth (m)', shrink=0.8)
    if legend:
        figure.legend(handles=legend, loc='outside lower center', ncols=-(-len(legend) // rows_of_legend), fontsize='small', frameon=False)
    if any(getattr(contents, 'scores', None) is not None for contents in everything):
        figure.suptitle(f'detections with a score of {100 * score:g} % or more', fontsize='small')
    return figure


def _unique(label: str, taken: dict[str, Any]) -> str:
    return label if label not in taken else f'{label}\n(second)'
