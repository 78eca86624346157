"""Build a runner from a config, for one process or several, with or without a GPU."""

import os
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Optional

import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.dist import all_gather_object
from mmengine.registry import OPTIMIZERS
from mmengine.runner import EpochBasedTrainLoop

from mmdysample.upsamplers import DUpsample

from .checkpoint import check_checkpoint, checkpoints, latest_complete, load_content
from .classes import match_to_resume, match_to_start
from .files import check_out
from .model import naming_the_config
from .pretrained import check_pretrained
from .runner import Runner, TrainingRunner
from .training.changes import check_changes, seed_of
from .training.random_state import seed_worker


def set_work_dir(config: Config, name: str, work_dir: Optional[str], log_to: str = '.') -> None:
    """Set the work directory of a config.

    Args:
        config: The config, changed in place.
        name: The name of the run.
        work_dir: The work directory; by default the config's, or else ``work_dirs/<name>``.
        log_to: The folder within the work directory that mmengine writes to.
    """
    config.work_dir = str(Path(work_dir or config.get('work_dir') or Path('work_dirs') / name) / log_to)


def set_resume(config: Config, resume: Optional[str]) -> list[Path]:
    """Set the checkpoint that training starts from.

    Args:
        config: The config, with its ``work_dir``.
        resume: ``'auto'`` for the latest complete checkpoint in the work directory, a file, or None to start a new training.

    Returns:
        The checkpoints in the work directory, for :func:`check_unchanged`.

    Raises:
        ValueError: Training cannot resume from the file, its classes are not those of the data, a file of pretrained weights is missing or
            broken, or a new training would overwrite checkpoints.
    """
    work_dir = Path(config.work_dir)
    found = checkpoints(work_dir)
    if config.get('resume'):  # the saved config of a run that was itself resumed
        config.resume, config.load_from = False, None
    if config.get('load_from'):
        check_checkpoint(config.load_from)
    if resume == 'auto':
        latest = latest_complete(work_dir)
        print(f'resuming from {latest}' if latest else f'no complete checkpoint in {work_dir}: starting from the beginning')
        config.resume, config.load_from = latest is not None, str(latest) if latest else config.get('load_from')
    elif resume:
        check_checkpoint(resume, to_resume=True)
        config.resume, config.load_from = True, resume
    elif found:
        raise ValueError(
            f'{work_dir} holds {found[0].name} of an earlier run: continue that run with --resume, or choose another --work-dir'
        )
    check_pretrained(config)
    if config.get('resume'):
        for line in match_to_resume(config, config.load_from):
            print(line)
        if (config.get('randomness') or {}).get('seed') is None:  # mmengine also restores it, but after it has shuffled the data
            config.randomness = {**(config.get('randomness') or {}), 'seed': seed_of(load_content(config.load_from))}
    elif config.get('load_from'):
        for line in match_to_start(config, config.load_from):
            print(line)
    return found


def check_unchanged(runner: Runner, found: list[Path]) -> None:
    """Check that no other training has saved a checkpoint after this one has looked for them and before it has locked the work directory.

    Args:
        runner: The runner, which holds the lock.
        found: What :func:`set_resume` has found.

    Raises:
        ValueError: The checkpoints are others now, or those that another process of this training has found. Every process raises it.
    """
    now = [path.name for path in checkpoints(Path(runner.work_dir))]
    first, *others = all_gather_object(([path.name for path in found], now))
    if any(other != first for other in others):
        raise ValueError(
            f'the processes of this training see different checkpoints in {runner.work_dir}: on several machines, choose a --work-dir that '
            'all of them share; on one, give this command again'
        )
    if first[0] != first[1]:
        raise ValueError(f'another training has just written to {runner.work_dir}: give this command again')


def set_launcher(config: Config, launcher: str, local_rank: int) -> None:
    """Set the launcher. Without a GPU, also start the gloo backend, which mmengine does not do.

    Args:
        config: The config.
        launcher: ``'none'``, ``'pytorch'``, ``'slurm'`` or ``'mpi'``.
        local_rank: The rank that old launchers pass as an argument instead of the variable ``LOCAL_RANK``.

    Raises:
        ValueError: The launcher is ``'pytorch'``, there is no GPU, and torchrun did not start this process.
    """
    config.launcher = launcher
    os.environ.setdefault('LOCAL_RANK', str(local_rank))
    if launcher == 'pytorch' and not torch.cuda.is_available():
        if 'RANK' not in os.environ:
            raise ValueError('--launcher pytorch needs torchrun, which sets RANK and WORLD_SIZE: use tools/dist_train.sh CONFIG GPUS')
        if not dist.is_initialized():
            dist.init_process_group('gloo')
        ddp = dict(broadcast_buffers=False, find_unused_parameters=config.get('find_unused_parameters', False))
        config.model_wrapper_cfg = {**ddp, **(config.get('model_wrapper_cfg') or {}), 'device_ids': None}


def save_predictions(config: Config, path: Path, force: bool) -> None:
    """Add an evaluator that saves the predictions.

    Args:
        config: The config.
        path: The file.
        force: Whether an existing file may be overwritten.

    Raises:
        ValueError: The file does not end in .pkl or .pickle, cannot be written or exists, or the config has no evaluator.
    """
    if path.suffix not in ('.pkl', '.pickle'):
        raise ValueError(f'--out must end in .pkl, got {path}')
    check_out(path, force)
    evaluators = config.get('test_evaluator')
    if not evaluators:
        raise ValueError(f'--out needs a test_evaluator, which {config.filename} lacks')
    dump = dict(type='DumpResults', out_file_path=str(path))
    config.test_evaluator = [*([evaluators] if isinstance(evaluators, dict) else evaluators), dump]


def draw_into(config: Config, folder: str) -> None:
    """Make the visualization hook of mmdet or mmseg draw every prediction into a folder.

    Raises:
        ValueError: The folder is a file, or the config has no visualizer or no visualization hook.
    """
    if Path(folder).is_file():
        raise ValueError(f'--show-dir takes a folder, got the file {folder}')
    folder = str(Path(folder).resolve())
    hook = (config.get('default_hooks') or {}).get('visualization')
    if not hook or not config.get('visualizer'):
        raise ValueError(f'--show-dir needs a visualizer and a visualization hook in default_hooks, which {config.filename} lacks')
    hook.draw = True
    if config.get('default_scope') == 'mmdet':
        hook.test_out_dir = folder
    else:
        config.visualizer.save_dir = folder
        hook.interval = 1


def set_amp(config: Config) -> None:
    """Set the config to train in mixed precision.

    Raises:
        ValueError: torch finds no GPU.
    """
    if not torch.cuda.is_available():
        raise ValueError('--amp needs a GPU, and torch finds none: leave it out')
    config.optim_wrapper.update(type='AmpOptimWrapper', loss_scale='dynamic')


def set_deterministic(config: Config) -> None:
    """Set the config to train with a fixed seed (its own, or 0) and deterministic algorithms, so that a run can be repeated exactly.

    An operation without a deterministic algorithm makes torch raise an error that names it. DySample has one on every device.
    """
    seed = (config.get('randomness') or {}).get('seed')
    config.randomness = {**(config.get('randomness') or {}), 'seed': 0 if seed is None else seed, 'deterministic': True}
    # Processes that outlive an epoch have random states that a checkpoint cannot hold.
    if 'max_epochs' in config.train_cfg and 'persistent_workers' in config.train_dataloader:
        config.train_dataloader.persistent_workers = False
    # Without this variable, torch raises an error for matrix products on CUDA under deterministic algorithms.
    os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')


def check_resume(config: Config) -> None:
    """Compare the config of a training that resumes with that of its checkpoint, and print what has changed.

    Raises:
        ValueError: mmengine would ignore a change, or go on with another model.
    """
    if config.get('resume'):
        for line in check_changes(config, load_content(config.load_from), config.load_from):
            print(line)


def build_runner(config: Config, to_train: bool = False) -> Runner:
    """Build the runner with its model, data and loops, so that mistakes in the config are reported before any work starts.

    Nothing is left in the work directory if this fails. To train, its lock is taken.

    Args:
        config: The config.
        to_train: Whether to build the loops and the optimizer for training, or else the loop for testing.

    Raises:
        ValueError: The model, the data or a loop of the config cannot be built.
    """
    with naming_the_config(config):
        runner = (TrainingRunner if to_train else Runner).from_cfg(config)
        with runner.unless_refused():
            if to_train:
                _prepare_training(runner, config)
            else:
                _ = runner.test_loop
    return runner


def _prepare_training(runner: Runner, config: Config) -> None:
    loop, _ = runner.train_loop, runner.val_loop
    optimizer = (config.optim_wrapper.get('optimizer') or {}).get('type')
    if isinstance(optimizer, str) and OPTIMIZERS.get(optimizer) is None:  # mmengine calls it None, and does not name it
        near = ' or '.join(get_close_matches(optimizer, OPTIMIZERS.module_dict, n=2))
        raise ValueError(f'there is no optimizer {optimizer}{f"; did you mean {near}?" if near else ""}')
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    if runner.deterministic and isinstance(loop, EpochBasedTrainLoop) and 'worker_init_fn' not in config.train_dataloader:
        loop.dataloader.worker_init_fn = partial(seed_worker, first=runner.rank * loop.dataloader.num_workers)
    for module in runner.model.modules():
        if isinstance(module, DUpsample):
            if config.get('resume'):
                module.matrix = None  # the checkpoint holds it
            module.read_matrix()
