"""Tell in advance which trainings cannot be repeated exactly when they are killed and resumed."""

from typing import Any, Optional

from mmengine.hooks import CheckpointHook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop


def why_not_repeatable(runner: Any) -> Optional[str]:
    """Return why a training with deterministic algorithms ends with other weights if it resumes from one of its checkpoints.

    mmengine saves neither the gradients that are being accumulated nor the place within an epoch.

    Args:
        runner: mmengine's runner, with its loop for training and its optimizer built.

    Returns:
        A line for the user, in the first of several processes. None if no such reason is known, or if repeating is not asked for.
    """
    if not runner.deterministic or runner.rank != 0:
        return None
    hooks = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]
    return next((line for hook in hooks if (line := _within_an_epoch(runner, hook) or _within_an_update(runner, hook))), None)


def _within_an_epoch(runner: Any, hook: CheckpointHook) -> Optional[str]:
    if hook.by_epoch or not isinstance(runner.train_loop, EpochBasedTrainLoop):
        return None
    return (
        'note: checkpoints are saved by iteration in a training by epochs. One that resumes begins its epoch again, so it ends with other '
        'weights than one that was not killed: set default_hooks.checkpoint.by_epoch=True'
    )


def _within_an_update(runner: Any, hook: CheckpointHook) -> Optional[str]:
    loop, optimizer = runner.train_loop, runner.optim_wrapper
    wrappers = list(optimizer.values()) if isinstance(optimizer, OptimWrapperDict) else [optimizer]
    counts = [wrapper._accumulative_counts for wrapper in wrappers if isinstance(wrapper, OptimWrapper)]
    # A loop over iterations is one epoch.
    length = 1 if not hook.by_epoch else len(loop.dataloader) if isinstance(loop, EpochBasedTrainLoop) else loop.max_iters
    steps = range(hook.save_begin or hook.interval, loop.max_iters // length, hook.interval) if hook.interval > 0 else ()
    for count in counts:
        if done := next((step * length for step in steps if step * length % count), None):
            return (
                f'note: a checkpoint is saved after {done} iterations, and gradients are accumulated over {count} (accumulative_counts). A '
                'training that resumes from it lacks those gradients, so it ends with other weights than one that was not killed: save '
                f'checkpoints after multiples of {count} iterations (default_hooks.checkpoint)'
            )
    return None
