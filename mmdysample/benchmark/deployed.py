"""Measure exported files in the runtimes that are installed: upsamplers alone, and whole models."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Optional

import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from mmdysample.engine.upsampler import parse_upsampler, upsampler_name
from mmdysample.export.export import Exported, export
from mmdysample.export.runtimes import ONNX_RUNTIMES, Runtime
from mmdysample.export.targets import make_form
from mmdysample.functional.capture import DEFORM_CONV, GATHERS, GRID_SAMPLE
from mmdysample.terminal.progress import progress
from mmdysample.upsamplers import build_upsampler
from mmdysample.upsamplers.builder import resolve

from .models import build_model
from .timing import Call, Clock, Timing, cpu_clock, in_a_word, interleaved
from .upsamplers import REFERENCE, SCALE_FACTOR, Show

SIZE = (1, 256, 60, 60)
IMAGE = (512, 512)
ROUNDS, SECONDS = 7, 3.0
MODELS, MODEL_UPSAMPLERS = ('segformer_b1_dysample',), ('bilinear', 'DySample', 'DySample+', 'CARAFE')
# Files without an operator for sampling are the same in every form.
FORMS: dict[str, dict[str, Any]] = {GRID_SAMPLE: {}, GATHERS: {'gathers': True}, DEFORM_CONV: {'target': 'onnxruntime'}}
PLAIN = ''


@dataclass(frozen=True)
class MeasuredFile:
    """The measurement of an exported file in a runtime.

    Args:
        subject: What was exported, such as ``'x2 of 1x256x60x60'`` or the name of a model and the size of the image.
        upsampler: Name of the upsampler.
        form: How samples are exported: a key of ``FORMS``; empty for a file without samples.
        runtime: Name and version of the runtime; empty if the export failed.
        time: In milliseconds; None if it failed.
        ratio: The time divided by that of the reference in the same rounds; None if one of them failed.
        difference: The largest difference from PyTorch, relative to the largest value; None if it failed.
        error: The reason for a failure, otherwise empty.
    """

    subject: str
    upsampler: str
    form: str
    runtime: str = ''
    time: Optional[Timing] = None
    ratio: Optional[float] = None
    difference: Optional[float] = None
    error: str = ''


@dataclass(frozen=True)
class _File:
    """An exported file, with the inputs that it is timed with."""

    upsampler: str
    form: str
    exported: Exported
    inputs: dict[str, Tensor]

    @property
    def key(self) -> str:
        """A name that no other file of the same subject has."""
        return f'{self.upsampler} {self.form}'

    def difference(self, runtime: Runtime) -> float:
        """Return the largest difference from PyTorch in a runtime."""
        return max(found.relative for found in self.exported.differences if found.runtime == str(runtime))


class Alone(nn.Module):
    """An upsampler as a model whose image is the map; a guide is the map, enlarged.

    Args:
        upsampler: The upsampler.
    """

    def __init__(self, upsampler: Any) -> None:
        super().__init__()
        self.upsampler = upsampler

    def forward(self, x: Tensor) -> Tensor:
        """Upsample the image."""
        if not getattr(self.upsampler, 'guided', False):
            return self.upsampler(x)
        return self.upsampler(x, F.interpolate(x, scale_factor=SCALE_FACTOR))


def measure_modules(
    upsamplers: Sequence[str],
    size: tuple[int, ...] = SIZE,
    rounds: int = ROUNDS,
    seconds: float = SECONDS,
    clock: Clock = cpu_clock,
    show: Show = progress,
) -> list[MeasuredFile]:
    """Export upsamplers with open sizes, and time the files in each runtime with interleaved calls.

    Args:
        upsamplers: Names, or dicts in Python syntax. ``bilinear`` is always measured, as the reference.
        size: ``(B, C, H, W)`` of the map.
        rounds: Minimum number of timed calls of each file.
        seconds: Approximate duration for each upsampler in each runtime.
        clock: The function that times a call.
        show: A function that iterates over items and shows the progress.

    Returns:
        A row for each upsampler, form and runtime, and one for each export that failed.
    """
    channels, image = size[1], (size[2], size[3])

    def make(text: str) -> nn.Module:
        module = build_upsampler(resolve(parse_upsampler(text))[0], channels).eval()
        offset = getattr(module, 'offset', None)
        if isinstance(offset, nn.Conv2d):
            nn.init.normal_(offset.weight, std=0.02)  # new points lie where bilinear interpolation has them
        return Alone(module)

    how = dict(part='upsampler', size=image, channels=channels, step=4)
    return _measure(f'x2 of {"x".join(map(str, size))}', make, upsamplers, how, size[0], rounds, seconds, clock, show)


def measure_models(
    configs: dict[Path, Config],
    upsamplers: Sequence[str],
    image: tuple[int, ...] = IMAGE,
    rounds: int = ROUNDS,
    seconds: float = SECONDS,
    clock: Clock = cpu_clock,
    show: Show = progress,
) -> list[MeasuredFile]:
    """Export whole models with several upsamplers and random weights, and time them on one image, as in :func:`measure_modules`."""
    rows = []
    for path, config in configs.items():
        subject = f'{path.stem.removesuffix("_dysample")} at {"x".join(map(str, image))}'
        with DefaultScope.overwrite_default_scope(config.get('default_scope')):
            rows += _measure(subject, partial(build_model, config), upsamplers, dict(size=image), 1, rounds, seconds, clock, show)
    return rows


def _measure(
    subject: str,
    make: Any,
    upsamplers: Sequence[str],
    how: dict[str, Any],
    batch: int,
    rounds: int,
    seconds: float,
    clock: Clock,
    show: Show,
) -> list[MeasuredFile]:
    names = {upsampler_name(resolve(parse_upsampler(text))[0]): text for text in (REFERENCE, *upsamplers)}
    rows: list[MeasuredFile] = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        reference = None
        for name, text in show(list(names.items()), label=subject):
            files = []
            for form in FORMS:
                path = Path(folder) / f'{"reference" if name == REFERENCE else form}.onnx'
                try:
                    exported = export(make(text), make_form('onnx', **FORMS[form]), path, **how)
                except Exception as error:  # any error means that it cannot be exported
                    rows.append(MeasuredFile(subject, name, form, error=in_a_word(error)))
                    continue
                images = exported.subject.images._replace(batch=batch)
                file = _File(name, form, exported, exported.subject.inputs_for(images))
                if form == GRID_SAMPLE and not {GRID_SAMPLE, DEFORM_CONV} & set(exported.operators):
                    files.append(replace(file, form=PLAIN))
                    break
                files.append(file)
            if name == REFERENCE and files:
                reference = files[0]
            rows += _time(subject, files, reference, rounds, seconds, clock)
    return rows


def _time(
    subject: str, files: Sequence[_File], reference: Optional[_File], rounds: int, seconds: float, clock: Clock
) -> list[MeasuredFile]:
    """Time the files of an upsampler beside that of the reference, in each runtime.

    Only these are open at a time, because a runtime keeps the memory of each open file.
    """
    rows = []
    for kind in ONNX_RUNTIMES:
        there = [file for file in files if any(found.runtime.startswith(kind.title) for found in file.exported.differences)]
        if not there:
            continue
        runtime = kind()
        beside = [] if reference is None or reference in there else [reference]
        calls: dict[str, Call] = {file.key: partial(runtime.open(file.exported.path), file.inputs) for file in (*there, *beside)}
        times, failed = interleaved(calls, clock, rounds, seconds)
        base = Timing.of(times[reference.key]).median if reference is not None and reference.key in times else None
        for file in there:
            time = Timing.of(times[file.key]) if file.key in times else None
            ratio = time.median / base if time and base else None
            why = failed.get(file.key, '')
            rows.append(MeasuredFile(subject, file.upsampler, file.form, str(runtime), time, ratio, file.difference(runtime), why))
    return rows
