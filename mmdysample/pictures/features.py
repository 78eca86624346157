"""Draw one feature map, upsampled by several upsamplers."""

from collections.abc import Sequence
from textwrap import fill
from typing import NamedTuple, Optional

import numpy as np
import torch
from matplotlib.patches import Rectangle
from torch import Tensor, nn

from mmdysample.engine.upsampler import parse_upsampler
from mmdysample.upsamplers import build_upsampler
from mmdysample.upsamplers.builder import UpsampleConfig, resolve

from .image_input import open_image
from .loaded_model import LoadedModel
from .picture import Picture, extent
from .places import edge_and_flat
from .principal_colours import fit_colours
from .sampling import low_resolution_stride
from .upsampler_calls import UpsamplerCall, choose_call, record_calls, upsampler_name

UPSAMPLERS = ('nearest', 'bilinear', 'CARAFE', 'DySample')
WINDOW = 12  # size of the detail in low-resolution pixels; at most half of the map is shown
COLUMNS = 6


class Upsampled(NamedTuple):
    """A feature map from an upsampler."""

    label: str
    state: str  # trained, untrained or no parameters
    out: Tensor


@torch.no_grad()
def draw_features(
    loaded: LoadedModel,
    image: Optional[str] = None,
    index: int = 0,
    module: Optional[str] = None,
    upsamplers: Sequence[str] = UPSAMPLERS,
) -> Picture:
    """Draw a feature map of a model, upsampled by the model's own upsampler and by others.

    In a notebook::

        from .loaded_model import load_model
        from .features import draw_features
        draw_features(load_model('configs/shapes/segformer_b1_dysample_shapes.py', 'work_dirs/.../iter_600.pth'), index=3)

    Args:
        loaded: The model.
        image: An image file.
        index: Index of the image in the config's test set, if there is no file.
        module: Name of the upsampler in the model whose input is drawn; by default, the one with the finest map.
        upsamplers: Names, or dicts in Python syntax. The model's own upsampler replaces the one of the same name, or comes first. The
            others have initial weights. A guided one gets the guide that the model has for its own upsampler.

    Returns:
        The image, its feature map and the upsampled maps, with a detail of each in the second row. All maps share one PCA.

    Raises:
        ValueError: The model has no upsampler, or none of that name; there is no such image; an upsampler is unknown, does not support the
            channels, or needs a guide that the model does not have.
    """
    configs = [parse_upsampler(text) for text in upsamplers]
    for config in configs:
        resolve(config)
    shown = open_image(loaded, image, index)
    with loaded.in_scope(), shown.named():
        call = choose_call(record_calls(loaded.model, shown.data), module)
    results = _upsample(loaded, call, configs)
    colours = fit_colours(call.x)
    stride = low_resolution_stride(shown, call)
    s = call.scale_factor

    low, high = _detail(shown.pixels, stride, min(WINDOW, -(-max(call.x.shape[2:]) // 2)))
    panels = [(f'{shown.name}\nthe image', shown.pixels, (1.0, 1.0))]
    height, width = call.x.shape[2:]
    panels.append((f'low-res. map\n{width}x{height}', colours(call.x), (1 / stride[0], 1 / stride[1])))
    for result in results:
        picture = colours(result.out)
        panels.append((f'{result.label}\n{result.state}', picture, (s / stride[0], s / stride[1])))

    blocks = -(-len(panels) // COLUMNS)
    columns = -(-len(panels) // blocks)
    aspect = shown.pixels.shape[0] / shown.pixels.shape[1]
    detail_aspect = (high[1] - low[1]) / (high[0] - low[0])
    ratios = [aspect, detail_aspect] * blocks
    figure = Picture(figsize=(2.1 * columns, 1.85 * sum(ratios) + 0.5 * blocks + 1.1), layout='constrained')
    axes = figure.subplots(2 * blocks, columns, squeeze=False, height_ratios=ratios)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
    for k in range(blocks * columns):
        whole, detail = axes[2 * (k // columns) : 2 * (k // columns) + 2, k % columns]
        if k >= len(panels):
            whole.axis('off')
            detail.axis('off')
            continue
        title, picture, pixel = panels[k]
        for ax in (whole, detail):
            ax.imshow(picture, extent=extent(picture, pixel), interpolation='nearest')
        whole.set(xlim=(0, shown.pixels.shape[1]), ylim=(shown.pixels.shape[0], 0))
        detail.set(xlim=(low[0], high[0]), ylim=(high[1], low[1]))
        whole.set_title(title, fontsize='small')
        whole.add_patch(_frame(low, high))
        if k % columns == 0:
            whole.set_ylabel('whole', fontsize='small')
            detail.set_ylabel(
                f'{(high[0] - low[0]) / stride[0]:.0f}x{(high[1] - low[1]) / stride[1]:.0f} low-res. pixels', fontsize='small'
            )
    figure.suptitle(f'{loaded.title}\n{call.name}: {width}x{height} to {s * width}x{s * height}', fontsize='medium')
    figure.supxlabel(fill(_caption(loaded, call, results, colours.explained), int(30 * columns)), fontsize='small')
    return figure


def _caption(loaded: LoadedModel, call: UpsamplerCall, results: Sequence[Upsampled], explained: float) -> str:
    text = (
        f'Colours: the first three principal components of the input ({100 * explained:.0f}% of its variance), the same for all maps; '
        'the frame is enlarged below. '
    )
    own = upsampler_name(call.module)
    if loaded.checkpoint is None:
        text += 'Nothing here is trained.'
    elif loaded.is_trained(call.name):
        text += f'Trained: {own}, as part of the model.'
    else:
        text += f"The checkpoint has no weights for the model's own {own}."
    untrained = ', '.join(result.label for result in results if result.state.startswith('untrained'))
    return text + (f' With initial weights: {untrained}.' if untrained else '')


def _upsample(loaded: LoadedModel, call: UpsamplerCall, configs: Sequence[UpsampleConfig]) -> list[Upsampled]:
    own = upsampler_name(call.module)
    state = _state(call.module, loaded.is_trained(call.name))
    mine = Upsampled(f"{own} (the model's)", state, call.out)
    results = [mine if config == own else _by_another(call, config) for config in configs]
    return results if own in configs else [mine, *results]


def _by_another(call: UpsamplerCall, config: UpsampleConfig) -> Upsampled:
    """Upsample the input of a call by another upsampler, with initial weights from a fixed seed."""
    label = str(config)
    if isinstance(config, dict):
        label = f'{config["type"]} ({", ".join(f"{key}={value}" for key, value in config.items() if key != "type")})'
    channels = call.x.shape[1]
    guide_channels = None if call.guide is None else call.guide.shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        upsampler = build_upsampler(config, channels, call.scale_factor, guide_channels).to(call.x).eval()
    if not getattr(upsampler, 'guided', False):
        return Upsampled(label, _state(upsampler), upsampler(call.x))
    if call.guide is None:
        raise ValueError(f'{label} is guided, but {call.name} has no finer map for a guide: choose another --module or other --upsamplers')
    return Upsampled(label, f'{_state(upsampler)}, guided', upsampler(call.x, call.guide))


def _state(upsampler: nn.Module, trained: bool = False) -> str:
    if not any(True for _ in upsampler.parameters()):
        return 'no parameters'
    return 'trained' if trained else 'untrained'


def _detail(pixels: np.ndarray, stride: tuple[float, float], window: int) -> tuple[np.ndarray, np.ndarray]:
    """Return two corners of a window around the strongest edge, in pixels of the image."""
    place = next(iter(edge_and_flat(pixels, max(stride)).values()))
    size = np.array(pixels.shape[1::-1], float)
    span = np.minimum(window * np.array(stride), size)
    low = np.clip(np.array(place) - span / 2, 0, size - span)
    return low, low + span


def _frame(low: np.ndarray, high: np.ndarray) -> Rectangle:
    return Rectangle((float(low[0]), float(low[1])), *map(float, high - low), fill=False, edgecolor='white', linewidth=1.2)
