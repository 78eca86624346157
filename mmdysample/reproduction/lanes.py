"""Lanes: a lane runs one training at a time, with GPUs and threads of its own."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch

from .tools import Tools, visible_gpus


def make_lanes(tools: Path, gpus: Sequence[int], per_row: int, jobs: int) -> list[Tools]:
    """Return the commands of each lane.

    Args:
        tools: The folder of the tools.
        gpus: Indices of the GPUs to share among the lanes; without any, there are ``jobs`` lanes.
        per_row: Number of GPUs per lane.
        jobs: Number of lanes without GPUs.

    Raises:
        ValueError: The GPUs cannot be shared among lanes of that size, or CUDA_VISIBLE_DEVICES lacks one.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    if not gpus:
        if per_row > 1:
            raise ValueError('--gpus-per-row needs --gpus, which names the GPUs')
        return [Tools(tools, max(1, cores // jobs))] * jobs
    if len(set(gpus)) < len(gpus) or min(gpus) < 0 or len(gpus) % per_row:
        raise ValueError(f'--gpus takes distinct indices from 0, a multiple of {per_row} of them, got {" ".join(map(str, gpus))}')
    given = visible_gpus()
    if given and max(gpus) >= len(given):
        raise ValueError(f'--gpus takes indices from 0 into CUDA_VISIBLE_DEVICES={",".join(given)}, got {" ".join(map(str, gpus))}')
    groups = [gpus[first : first + per_row] for first in range(0, len(gpus), per_row)]
    return [Tools(tools, max(1, cores // len(gpus)), group) for group in groups]


def check_gpus(gpus: Sequence[int]) -> None:
    """Check that torch sees these GPUs, because with an index that does not exist it would silently train on the CPU.

    Raises:
        ValueError: A GPU does not exist.
    """
    there = torch.cuda.device_count()
    if gpus and max(gpus) >= there:
        numbers = f'the GPUs 0 to {there - 1}' if there > 1 else 'the GPU 0' if there else 'no GPU; leave out --gpus to train on the CPU'
        raise ValueError(f'--gpus {" ".join(map(str, gpus))}: torch sees {numbers}')
