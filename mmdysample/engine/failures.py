"""Say in one line why training or testing stopped, if the reason is the data or the machine."""

import re
from collections.abc import Iterable, Iterator
from typing import Any, Optional

import torch
from mmengine.evaluator import BaseMetric
from mmengine.runner import TestLoop, ValLoop
from torch import Tensor

from mmdysample.datasets.last_file import last_file
from mmdysample.datasets.loading import WHERE, DataError, calls
from mmdysample.datasets.maps.class_counts import IGNORED

from .errors import one_line

# Parts of the messages of torch about an image that is too small, or too narrow, for a model.
TOO_SMALL = (
    "Kernel size can't be greater",
    'Output size is too small',
    'Expected more than 1 value per channel',
    'Padding size should be less',
)
LABELS = {'gt_sem_seg': 'label map', 'gt_depth_map': 'depth map'}  # by their keys in a sample
CRASHES = ('Segmentation fault', 'Aborted', 'Floating point exception', 'Illegal instruction')
OTHER_PROCESS = ('Connection closed by peer', 'Connection reset by peer', 'Broken pipe', 'Remote peer')


def explain(error: Exception, batch: Any) -> Optional[str]:
    """Return why training or testing stopped.

    Args:
        error: What was raised.
        batch: The last batch of the data loader, as the model gets it; None before the first.

    Returns:
        One line that names the file or the remedy; None if the error is none of the data or the machine, but a bug.
    """
    text = one_line(error)
    if isinstance(error, DataError):
        return text
    if memory := _memory(error, text):
        return memory
    if worker := _worker(' '.join(map(one_line, _chain(error)))):
        return worker
    if 'in DataLoader worker process' in str(error) or any(function == 'fetch' for _, function in calls(error)):
        return f'a batch cannot be put together ({_named(error, text)}) {WHERE}'
    if evaluation := _evaluation(error, text, batch):
        return evaluation
    if label := _label(text, batch):
        return label
    if sizes := _sizes(text, batch):
        return sizes
    if any(part in text for part in TOO_SMALL):
        return f'the model does not accept {", ".join(_paths(batch))} ({text[:200]}): use larger images {WHERE}'
    return None


def of_another_process(error: Exception) -> bool:
    """Return True if an error says that another process of a distributed training has ended."""
    return type(error).__name__ == 'DistBackendError' or any(part in str(error) for part in OTHER_PROCESS)


def _memory(error: Exception, text: str) -> Optional[str]:
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return f'the GPU has too little memory ({text[:80]}): lower batch_size, or the size of the images, or try --amp'
    if isinstance(error, MemoryError) or "can't allocate memory" in text:
        return f'this machine has too little memory ({text[:200]}): lower batch_size or num_workers, or the size of the images'
    return None


def _worker(text: str) -> Optional[str]:
    if re.search(r'Bus error|shared memory|</?torch_\d+', text):
        return 'the data loader has too little shared memory (/dev/shm): lower num_workers, or start the container with --shm-size=8g'
    if 'Too many open files' in text or 'ancdata' in text:
        return 'the data loader has too many open files: raise the limit (ulimit -n 65536), or lower num_workers'
    died = re.search(r'DataLoader worker \(pid(?:\(s\))? (\d+)[\d, ]*\) (?:is killed by signal: ([\w ]+)|exited unexpectedly)', text)
    if not died:
        return None
    file = last_file(int(died[1]))
    while_ = f' while it loaded {file}' if file else ''
    if died[2] in CRASHES:
        return (
            f'a process of the data loader crashed{while_} ({died[2]}), most often because of a broken image or mask: '
            'tools/check_data.py reads every file and names the broken ones'
        )
    return f'a process of the data loader was ended{while_} ({died[2] or "it exited"}), most often for lack of memory: lower num_workers'


def _evaluation(error: Exception, text: str, batch: Any) -> Optional[str]:
    passed = calls(error)
    metrics = [(type(owner).__name__, function) for owner, function in passed if isinstance(owner, BaseMetric)]
    if not metrics:
        return None
    if 'shape' in text and (misfit := _misfit(batch, [sample.get('ori_shape') for sample in _samples(batch)])):
        return misfit
    what = ', '.join(_paths(batch)) if any(function == 'process' for _, function in metrics) else 'the predictions'
    loop = next((owner for owner, _ in passed if isinstance(owner, (ValLoop, TestLoop))), None)
    ann_file = getattr(loop and loop.dataloader.dataset, 'ann_file', None)
    return f'{metrics[0][0]} cannot evaluate {what}{f" with {ann_file}" if ann_file else ""} ({_named(error, text)}) {WHERE}'


def _sizes(text: str, batch: Any) -> Optional[str]:
    """Name an image whose labels have another size or colours, or images of different sizes, which cannot be put into one batch."""
    images = batch.get('inputs', ()) if isinstance(batch, dict) else ()
    inputs = {path: image for path, image in zip(_paths(batch), images) if isinstance(image, Tensor)}
    if 'image size in a batch should be the same' in text:
        sizes = {tuple(image.shape[:0:-1]): path for path, image in inputs.items()}
        named = ', '.join(f'{path}: {width}x{height}' for (width, height), path in sizes.items())
        return f'the images of a batch differ in size ({named}): set batch_size=1 for this data loader'
    if 'stack expects each tensor to be equal size' in text:
        return _misfit(batch, [image.shape[1:] for image in inputs.values()])
    return None


def _misfit(batch: Any, sizes: Iterable[Any]) -> Optional[str]:
    """Name the first labels of a batch that are not of one channel and the given height and width."""
    for sample, size in zip(_samples(batch), sizes):
        for name, kind in LABELS.items():
            labels = getattr(getattr(sample, name, None), 'data', None)
            if size is not None and isinstance(labels, Tensor) and labels.shape != (1, *size):
                fault = 'another size than the image' if len(labels) == 1 else 'colours, and should have one channel'
                return f'the {kind} {sample.get("seg_map_path") or ""} of {sample.get("img_path")} has {fault}'.replace('  ', ' ')
    return None


def _label(text: str, batch: Any) -> Optional[str]:
    """Name the label map with a label beyond the classes, which the loss has refused."""
    refused = re.search(r'Target (\d+) is out of bounds', text)
    if not refused and 'device-side assert' not in text:
        return None
    for sample in _samples(batch):
        labels = getattr(getattr(sample, 'gt_sem_seg', None), 'data', None)
        if not isinstance(labels, Tensor):
            continue
        found = int(refused[1]) if refused else int(labels[labels != IGNORED].max())
        if (labels == found).any():
            shift = bool(sample.get('reduce_zero_label'))
            path = sample.get('seg_map_path') or sample.get('img_path')
            return f'{path} has the label {found + shift}, which is beyond the classes of the model'
    return None


def _chain(error: Optional[BaseException]) -> Iterator[BaseException]:
    """Yield the causes of an error and then the error itself."""
    if error is not None:
        yield from _chain(error.__cause__ or error.__context__)
        yield error


def _samples(batch: Any) -> Iterable[Any]:
    samples = batch.get('data_samples') or () if isinstance(batch, dict) else ()
    return [sample for sample in samples if hasattr(sample, 'get')]  # a dataset of the user's own may have others


def _paths(batch: Any) -> Iterator[str]:
    for sample in _samples(batch):
        yield str(sample.get('img_path'))


def _named(error: Exception, text: str) -> str:
    return text if text.startswith(type(error).__name__) else f'{type(error).__name__}: {text[:300]}'
