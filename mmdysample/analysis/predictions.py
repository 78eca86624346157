"""Predictions on a few images of the test set, and where the upsampler looked on the first."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from mmengine.runner import Runner

from .sampling_points import draw_sampling_points, record_inputs, sampling_points

matplotlib.use('Agg')
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec


@torch.no_grad()
def draw_predictions(runner: Runner, out: Path, count: int = 6, score_threshold: float = 0.5) -> None:
    """Save a picture: ground truth above predictions for a few images, depth in one scale of metres, and sampling points.

    Args:
        runner: With the checkpoint loaded.
        out: The file.
        count: How many images.
        score_threshold: Which detections to show.
    """
    model = runner.model.eval()
    runner.visualizer.dataset_meta = runner.test_dataloader.dataset.metainfo
    inputs = record_inputs(model)
    columns = []
    focus: tuple[np.ndarray, tuple[float, float]]
    dataset = runner.test_dataloader.dataset
    for i in range(min(count, len(dataset))):
        data = runner.test_dataloader.collate_fn([dataset[i]])
        sample = model.test_step(data)[0]
        image = _image(sample.img_path)
        if hasattr(sample, 'pred_depth_map'):
            columns.append({'image': image, 'true depth': _depth(sample.gt_depth_map), 'predicted depth': _depth(sample.pred_depth_map)})
        else:
            labels = {'ground truth': True, 'prediction': False}
            columns.append({label: _draw(runner, image, sample, score_threshold, truth) for label, truth in labels.items()})
        if i == 0:
            focus = _network_input(data), _focus(sample)
            padded = model.data_preprocessor(data)['inputs'].shape[-2:]

    count_rows = len(columns[0])
    heights = [1.0] * count_rows + ([2.6] if inputs else [])
    figure = plt.figure(figsize=(2.2 * len(columns), 2.4 * count_rows + (6 if inputs else 0)), layout='constrained')
    grid = figure.add_gridspec(len(heights), len(columns), height_ratios=heights)
    _draw_columns(figure, grid, columns)
    if inputs:
        finest = max(inputs, key=lambda name: inputs[name].shape[2:].numel())
        points = sampling_points(finest, model.get_submodule(finest), inputs[finest])
        draw_sampling_points(figure.add_subplot(grid[-1, :]), focus[0], points, focus[1], padded)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=130)
    plt.close(figure)


def _draw_columns(figure: Figure, grid: GridSpec, columns: list[dict[str, np.ndarray]]) -> None:
    """Draw a column of pictures for each image; what has no colours is depth, all of it in one scale."""
    depths = [picture.ravel() for column in columns for picture in column.values() if picture.ndim == 2]
    scale = dict(cmap='viridis_r', vmin=np.nanmin(np.concatenate(depths)), vmax=np.nanmax(np.concatenate(depths))) if depths else {}
    axes = []
    for j, column in enumerate(columns):
        for row, (label, picture) in enumerate(column.items()):
            ax = figure.add_subplot(grid[row, j])
            shown = ax.imshow(picture, **(scale if picture.ndim == 2 else {}))
            ax.set(xticks=[], yticks=[])
            if j == 0:
                ax.set_ylabel(label)
            if picture.ndim == 2:
                axes.append(ax)
    if depths:
        figure.colorbar(shown, ax=axes, label='depth (m)')


def _depth(depth: Any) -> np.ndarray:
    """Metres, ``(H, W)``; NaN where the sensor saw nothing."""
    metres = depth.data.squeeze(0).cpu().numpy()
    return np.where(metres > 0, metres, np.nan)


def _image(path: str) -> np.ndarray:
    import mmcv

    return mmcv.imread(path, channel_order='rgb')


def _draw(runner: Runner, image: np.ndarray, sample: Any, score_threshold: float, truth: bool) -> np.ndarray:
    """The framework's own drawing; mmdet's takes a threshold, mmseg's does not."""
    of_mmdet = hasattr(sample, 'pred_instances') or hasattr(sample, 'pred_panoptic_seg')
    detection = {'pred_score_thr': score_threshold} if of_mmdet else {'with_labels': False}
    runner.visualizer.add_datasample('', image, sample, draw_gt=truth, draw_pred=not truth, show=False, **detection)
    return runner.visualizer.get_image()


def _network_input(data: dict) -> np.ndarray:
    """The first image as the network saw it, ``(h, w, 3)``, RGB."""
    return data['inputs'][0].flip(0).permute(1, 2, 0).numpy().astype(np.uint8)


def _focus(sample: Any) -> tuple[float, float]:
    """The corner of the first object in the network's image, where there is an edge to look at, or else the middle of the image."""
    boxes = getattr(getattr(sample, 'gt_instances', None), 'bboxes', None)
    if boxes is not None and len(boxes):
        x, y, _, _ = getattr(boxes, 'tensor', boxes)[0].tolist()
        scale = sample.get('scale_factor', (1.0, 1.0))  # boxes are in pixels of the file, the network's image may be resized
        return x * scale[0], y * scale[1]
    height, width = sample.img_shape[:2]
    return width / 2, height / 2
