"""Read and set the states of all random number generators of a process."""

import random
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from mmengine.device import get_device

Batch = Any


def get_random_state() -> dict[str, Any]:
    """Return the states of Python's, numpy's and torch's generators, as numbers and tensors, which a checkpoint may hold."""
    version, words, gauss = random.getstate()
    numbers = np.random.get_state(legacy=False)
    assert isinstance(numbers, dict)
    return {
        'python': {'version': version, 'words': torch.tensor(words), 'gauss': gauss},
        'numpy': {
            'key': torch.from_numpy(numbers['state']['key'].astype(np.int64)),
            'pos': int(numbers['state']['pos']),
            'has_gauss': int(numbers['has_gauss']),
            'gauss': float(numbers['gauss']),
        },
        'torch': torch.get_rng_state(),
        'devices': _device_states(),
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Set all generators to what :func:`get_random_state` returned. States of devices that this machine lacks are left out."""
    words, numbers = state['python'], state['numpy']
    random.setstate((words['version'], tuple(words['words'].tolist()), words['gauss']))
    key = numbers['key'].cpu().numpy().astype(np.uint32)
    np.random.set_state(('MT19937', key, numbers['pos'], numbers['has_gauss'], numbers['gauss']))
    torch.set_rng_state(state['torch'].cpu())  # a checkpoint may have been loaded to another device
    _set_device_states([device.cpu() for device in state['devices']])


def set_after(batches: Iterator[Batch], count: int, state: dict[str, Any]) -> Iterator[Batch]:
    """Yield batches, and set the random state between the first ``count`` of them, which were trained before, and the others."""
    yield from islice(batches, count)
    set_random_state(state)
    yield from batches


def seed_worker(_: int, first: int) -> None:
    """Seed a process of a data loader by the state of the training process, which differs between epochs and is restored on resuming.

    Args:
        first: The number of this process among those of all data loaders of a distributed training.
    """
    seed = torch.initial_seed() + first
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)


def _device_states() -> list[torch.Tensor]:
    kind = get_device()
    if kind == 'mps':
        return [torch.mps.get_rng_state()]
    module = getattr(torch, kind)
    return list(module.get_rng_state_all()) if hasattr(module, 'get_rng_state_all') else []


def _set_device_states(states: list[torch.Tensor]) -> None:
    kind = get_device()
    if kind == 'mps' and states:
        torch.mps.set_rng_state(states[0])
    module = getattr(torch, kind)
    for index, state in enumerate(states[: module.device_count()] if hasattr(module, 'get_rng_state_all') else ()):
        module.set_rng_state(state, index)
