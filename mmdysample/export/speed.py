"""Time an exported file beside the same model with bilinear interpolation."""

import copy
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from mmdysample.pictures.upsampler_calls import find_upsamplers

from .export import Exported, export
from .forms import Form
from .subject import halved

ROUNDS = 7


class Bilinear(nn.Module):
    """Bilinear interpolation in place of an upsampler, with the same arguments.

    Args:
        module: The upsampler.
    """

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.scale_factor = module.scale_factor
        self.guided, self.enhances_guide = getattr(module, 'guided', False), getattr(module, 'enhances_guide', False)

    def forward(self, x: Tensor, guide: Any = None, both: bool = False) -> Any:
        """Interpolate ``x``, and return the guide as it is if ``both`` are asked for."""
        y = F.interpolate(x, scale_factor=self.scale_factor, mode='bilinear', align_corners=False)
        return (y, guide) if both else y


def with_bilinear(model: nn.Module) -> nn.Module:
    """Return a copy of a model in which every upsampler is bilinear interpolation."""
    model = copy.deepcopy(model)
    for name, module in find_upsamplers(model).items():
        model.set_submodule(name, Bilinear(module))
    return model.eval()


def describe_speed(exported: Exported, form: Form, model: nn.Module, how: dict[str, Any]) -> str:
    """Return a sentence with the time of a file in each of its runtimes, beside that of the same model with bilinear interpolation.

    Args:
        exported: The file.
        form: Its format.
        model: The model in PyTorch.
        how: The arguments of :func:`~mmdysample.export.export.export`.
    """
    images = exported.subject.images
    names = find_upsamplers(model)
    if not names or how['part'] in names:
        return ''
    with tempfile.TemporaryDirectory() as folder:
        twin = Path(folder) / f'twin{form.suffix}'
        try:
            export(with_bilinear(model), form, twin, **how)
        except ValueError as error:
            return f'time: not compared with bilinear interpolation, because {error}'
        inputs = exported.subject.inputs_for(images._replace(batch=1))
        inputs = halved(inputs) if exported.half else inputs
        said = []
        for runtime in form.runtimes:
            runs = [runtime.open(path) for path in (exported.path, twin)]
            times: list[list[float]] = [[], []]
            for _ in range(ROUNDS + 1):  # the first round allocates
                for run, taken in zip(runs, times):
                    start = time.perf_counter()
                    run(inputs)
                    taken.append(1e3 * (time.perf_counter() - start))
            ours, theirs = (statistics.median(taken[1:]) for taken in times)
            said.append(f'{ours:.1f} ms in {runtime}, {ours / theirs:.2f} times that with bilinear interpolation')
            del runs
    return f'time for {images._replace(batch=1)}: {"; ".join(said)}'
