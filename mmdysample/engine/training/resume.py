"""Complete the evaluation that a killed training missed, when it resumes."""

from typing import Any

from mmengine.hooks import CheckpointHook, Hook
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop


@HOOKS.register_module()
class EvaluateFirst(Hook):
    """Evaluate the checkpoint that training resumes from, if the run keeps the best checkpoint (``save_best``).

    mmengine saves a checkpoint, evaluates it, and then saves it again as the best one if it is. If the process is killed in between,
    mmengine resumes with the next iteration and never evaluates that checkpoint, so the best checkpoint may be missing, wrong or only
    partly written. A checkpoint that was evaluated before the kill is evaluated again, which only costs time.
    """

    priority = 'LOWEST'  # run after CheckpointHook, which reads the best score so far before training starts

    def before_train(self, runner: Any) -> None:
        """Evaluate if the run that saved the checkpoint was due to evaluate it."""
        loop = runner.train_loop
        done, end = (loop.epoch, loop.max_epochs) if isinstance(loop, EpochBasedTrainLoop) else (loop.iter, loop.max_iters)
        keeps_best = any(isinstance(hook, CheckpointHook) and hook.save_best for hook in runner.hooks)
        evaluated = done >= loop.val_begin and (done % loop.val_interval == 0 or done == end)
        if done and keeps_best and evaluated and runner.val_loop is not None:
            runner.val_loop.run()
