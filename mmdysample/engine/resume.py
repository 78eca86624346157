"""What a training that was killed has to make up for when it goes on."""

from typing import Any

from mmengine.hooks import CheckpointHook, Hook
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop


@HOOKS.register_module()
class EvaluateFirst(Hook):
    """Where the best checkpoint is kept, evaluate the one that training resumes from.

    mmengine saves a checkpoint, evaluates it, and then saves it as the best one, if it is. Killed in between, it would go on with the
    next iteration: that evaluation would be missing among those that the best is chosen from, and with it the best checkpoint itself
    if none was better, or half of it would stay. One that had been evaluated is so again; nothing comes of it but the time.
    """

    priority = 'LOWEST'  # after CheckpointHook, which finds out before training what was the best so far

    def before_train(self, runner: Any) -> None:
        """Evaluate, if the run of mmengine that saved the checkpoint would have."""
        loop = runner.train_loop
        done, end = (loop.epoch, loop.max_epochs) if isinstance(loop, EpochBasedTrainLoop) else (loop.iter, loop.max_iters)
        keeps_best = any(isinstance(hook, CheckpointHook) and hook.save_best for hook in runner.hooks)
        evaluated = done >= loop.val_begin and (done % loop.val_interval == 0 or done == end)
        if done and keeps_best and evaluated and runner.val_loop is not None:
            runner.val_loop.run()
