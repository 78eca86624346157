"""Record the inputs and outputs of the upsamplers of a model."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Optional

import torch
from mmcv.cnn.bricks.upsample import PixelShufflePack
from mmengine.registry import MODELS
from torch import Tensor, nn

# The classes of mmcv's upsamplers, which have no attribute ``guided``.
MMCV_CLASSES = {nn.ConvTranspose2d: 'deconv', PixelShufflePack: 'pixel_shuffle'}


class UpsamplerCall(NamedTuple):
    """The first call of an upsampler for one image."""

    name: str  # name of the module in the model
    module: nn.Module
    x: Tensor  # (1, C, H, W)
    guide: Optional[Tensor]  # (1, C_g, s*H, s*W): the guide that the model has for it; None if it has no finer map
    out: Tensor  # (1, C, s*H, s*W)
    padded: tuple[int, int]  # height and width of the network's input, padding included

    @property
    def stride(self) -> tuple[float, float]:
        """Pixels of the network's input per pixel of ``x``, in x and y."""
        return self.padded[1] / self.x.shape[3], self.padded[0] / self.x.shape[2]

    @property
    def scale_factor(self) -> int:
        """The upsampling ratio."""
        return self.out.shape[3] // self.x.shape[3]


def find_upsamplers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the upsamplers of a model by module name, without those of RoI heads, which see only regions of the image."""
    return dict(_walk(model, ''))


def _walk(module: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
    for key, child in module.named_children():
        name = f'{path}{key}'
        # replace_upsample leaves the nn.Upsample in the model, but the upsampler in upsample_modules (its own or its parent's) is called.
        replaced = isinstance(child, nn.Upsample) and (hasattr(module, 'upsample_modules') or hasattr(child, 'upsample_modules'))
        if key == 'roi_head':
            continue
        if _is_upsampler(child) and not replaced:
            yield name, child
        else:
            yield from _walk(child, f'{name}.')


def _is_upsampler(module: nn.Module) -> bool:
    return (hasattr(type(module), 'guided') or isinstance(module, (nn.Upsample, *MMCV_CLASSES))) and _ratio(module) > 0


def _ratio(module: nn.Module) -> int:
    """Return the upsampling ratio; 0 if it is not an integer, differs between height and width, or depends on the input."""
    ratio: Any = getattr(module, 'scale_factor', None) or getattr(module, 'stride', 0)
    first, *others = ratio if isinstance(ratio, tuple) else (ratio,)
    return int(first) if first == int(first) and all(other == first for other in others) else 0


def upsampler_name(module: nn.Module) -> str:
    """Return the name of an upsampler in the registry."""
    if isinstance(module, nn.Upsample):
        return str(module.mode)
    ours = (name for name, cls in MODELS.module_dict.items() if cls is type(module) and hasattr(cls, 'guided'))
    return next(ours, MMCV_CLASSES.get(type(module), type(module).__name__))


@torch.no_grad()
def record_calls(model: nn.Module, data: dict[str, Any]) -> dict[str, UpsamplerCall]:
    """Run a model on a batch of one image and record the calls of its upsamplers.

    Args:
        model: The model in evaluation mode. An mmseg model with a sliding window gets the whole image at once.
        data: The argument of its ``test_step``.

    Returns:
        The first call of each upsampler by module name; only of upsamplers that see the whole image.
    """
    recorders = {name: Recorder(module) for name, module in find_upsamplers(model).items()}
    with _whole_images(model), _in_place(model, recorders):
        model.test_step(data)  # type: ignore[operator]
        padded = model.data_preprocessor(data, False)['inputs'].shape[-2:]  # type: ignore[operator]
    calls = {}
    for name, recorder in recorders.items():
        if recorder.call is not None and recorder.call[0].shape[0] == 1:
            calls[name] = UpsamplerCall(name, recorder.upsampler, *recorder.call, (padded[0], padded[1]))
    return calls


def choose_call(calls: dict[str, UpsamplerCall], name: Optional[str] = None, kind: Optional[type] = None) -> UpsamplerCall:
    """Choose an upsampler.

    Args:
        calls: The result of :func:`record_calls`.
        name: Name of the module; by default, the one with the finest map, the last of several.
        kind: The class that the upsampler must have.

    Raises:
        ValueError: The model has no such upsampler, or none of that name.
    """
    what = 'DySample' if kind else 'upsampler'
    fitting = {key: call for key, call in calls.items() if kind is None or isinstance(call.module, kind)}
    if not fitting:
        raise ValueError(
            f'the model has no {what} that sees the whole image; add one with --upsampler {what if kind else "NAME"}, or choose '
            'another config'
        )
    if name is None:
        return max(reversed(fitting.values()), key=lambda call: call.x.shape[2:].numel())
    if name not in fitting:
        raise ValueError(f'the model has no {what} {name!r} that sees the whole image; it has {", ".join(fitting)}')
    return fitting[name]


class Recorder(nn.Module):
    """A wrapper that records the first call of an upsampler. It is always guided, so that the model passes its guide if it has one."""

    guided = True

    def __init__(self, upsampler: nn.Module) -> None:
        super().__init__()
        self.upsampler = upsampler
        self.scale_factor = _ratio(upsampler)
        self.enhances_guide = getattr(upsampler, 'enhances_guide', False)
        self.call: Optional[tuple[Tensor, Optional[Tensor], Tensor]] = None

    def forward(self, x: Tensor, guide: Optional[Tensor] = None, **options: Any) -> Any:
        """Upsample by the wrapped upsampler, and record the first call."""
        inputs = (x, guide) if getattr(self.upsampler, 'guided', False) else (x,)
        if self.call is not None:
            return self.upsampler(*inputs, **options)
        kept = x.clone(), None if guide is None else guide.clone()
        out = self.upsampler(*inputs, **options)
        map_ = out[0] if isinstance(out, tuple) else out  # the enhanced guide comes second
        self.call = *kept, map_.clone()  # copies, because the model may change the tensors in-place, as ReLU(inplace=True) does
        return out


@contextmanager
def _in_place(model: nn.Module, modules: dict[str, Recorder]) -> Iterator[None]:
    places = {name: (model.get_submodule(name.rpartition('.')[0]), name.rpartition('.')[2]) for name in modules}
    try:
        for name, (parent, key) in places.items():
            setattr(parent, key, modules[name])
        yield
    finally:
        for name, (parent, key) in places.items():
            setattr(parent, key, modules[name].upsampler)


@contextmanager
def _whole_images(model: nn.Module) -> Iterator[None]:
    test_cfg: Any = getattr(model, 'test_cfg', None)
    mode = test_cfg.get('mode') if isinstance(test_cfg, dict) else None
    if mode:
        test_cfg['mode'] = 'whole'
    try:
        yield
    finally:
        if mode:
            test_cfg['mode'] = mode
