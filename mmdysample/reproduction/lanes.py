"""Lanes: how many trainings run at a time, and the GPUs and threads that each of them gets."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch

from .tools import Tools, visible_gpus


def make_lanes(tools: Path, gpus: Sequence[int], per_row: int, jobs: int) -> list[Tools]:
    """The commands for each training that runs at a time.

    Raises:
        ValueError: The GPUs cannot be shared out.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    if not gpus:
        if per_row > 1:
            raise ValueError('--gpus-per-row goes with --gpus, which says which')
        return [Tools(tools, max(1, cores // jobs))] * jobs
    if len(set(gpus)) < len(gpus) or min(gpus) < 0 or len(gpus) % per_row:
        raise ValueError(f'--gpus takes distinct numbers, {per_row} for each row at a time, got {" ".join(map(str, gpus))}')
    given = visible_gpus()
    if given and max(gpus) >= len(given):
        raise ValueError(f'--gpus counts from 0 what CUDA_VISIBLE_DEVICES={",".join(given)} names, got {" ".join(map(str, gpus))}')
    groups = [gpus[first : first + per_row] for first in range(0, len(gpus), per_row)]
    return [Tools(tools, max(1, cores // len(gpus)), group) for group in groups]


def check_gpus(gpus: Sequence[int]) -> None:
    """Check that there are such GPUs: with the number of another, torch would train on the CPU and say nothing.

    Raises:
        ValueError: There are not.
    """
    there = torch.cuda.device_count()
    if gpus and max(gpus) >= there:
        numbers = f'the GPUs 0 to {there - 1}' if there > 1 else 'the GPU 0' if there else 'no GPU, and trains on the CPU without --gpus'
        raise ValueError(f'--gpus {" ".join(map(str, gpus))}: torch sees {numbers}')
