"""Save checkpoints so that a training which is killed at any moment can go on as if it had not been."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.hooks import CheckpointHook as StockCheckpointHook
from mmengine.runner import IterBasedTrainLoop

from .random_state import get_random_state, set_after, set_random_state

RANDOM_STATES = 'random_states'  # the key in a checkpoint: a list of states, one for each process


class CheckpointHook(StockCheckpointHook):
    """mmengine's hook, with two differences.

    It removes old checkpoints after the new one is written, and not before, so that with ``max_keep_ckpts=1`` there always is one.

    It saves the states of the random number generators and restores them when training resumes. An evaluation during training leaves
    them as they were, so that a resumed training, which may evaluate at other moments, draws the same numbers.
    """

    file_backend: Any
    _resumed: Optional[list[dict[str, Any]]] = None  # the states of the checkpoint that training resumes from
    _before_val: Optional[list[dict[str, Any]]] = None  # the states before the evaluation that is running
    _states: Optional[list[dict[str, Any]]] = None  # the states to be saved

    def before_val(self, runner: Any) -> None:
        """Remember the random states. They are collected here, where all processes come by, and not if a metric is the best so far."""
        self._before_val = all_gather_object(get_random_state())

    def after_val(self, runner: Any) -> None:
        """Restore the random state."""
        if self._before_val is not None:
            set_random_state(self._before_val[get_rank()])
            self._before_val = None

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Add the random states to a checkpoint from which training can resume."""
        if self._states is not None and 'optimizer' in checkpoint:
            checkpoint[RANDOM_STATES] = self._states

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Keep the random states, if training resumes."""
        states = checkpoint.get(RANDOM_STATES)
        checkpoint[RANDOM_STATES] = []  # for one hook, if there are several of this class
        self._resumed = states if runner._resume else None
        if runner._resume and states is None:
            runner.logger.warning('the checkpoint holds no random states, so training goes on with other random numbers')

    def before_train_epoch(self, runner: Any) -> None:
        """Restore the random state when training resumes: at once, or after the batches that an iteration-based loop skips."""
        states, self._resumed = self._resumed, None
        if not states:
            return
        if len(states) != get_world_size():
            runner.logger.warning(
                f'the checkpoint is of {len(states)} processes and this training has {get_world_size()}, so it draws other random numbers'
            )
            return
        loop = runner.train_loop
        if isinstance(loop, IterBasedTrainLoop):
            loop.dataloader_iterator = set_after(loop.dataloader_iterator, loop.iter, states[get_rank()])
        else:
            set_random_state(states[get_rank()])

    def _save_checkpoint_with_step(self, runner: Any, step: int, meta: dict[str, Any]) -> None:
        with self._removing_afterwards(), self._with_states():
            super()._save_checkpoint_with_step(runner, step, meta)

    def _save_best_checkpoint(self, runner: Any, metrics: dict[str, Any]) -> None:
        with self._removing_afterwards(), self._with_states():
            super()._save_best_checkpoint(runner, metrics)

    @contextmanager
    def _with_states(self) -> Iterator[None]:
        """Have the states saved, and only with what is saved within: another hook may save at another iteration."""
        outer = self._states
        self._states = self._before_val or all_gather_object(get_random_state())  # here, because saving is left to one process
        try:
            yield
        finally:
            self._states = outer

    @contextmanager
    def _removing_afterwards(self) -> Iterator[None]:
        """Put off the removal of files until all else is done, and leave out those that were written again or are of another folder.

        A training that resumes in a new folder, or in a copy of its folder, still has the path of the best checkpoint of the old one.
        """
        backend, self.file_backend = self.file_backend, _Postponing(self.file_backend)
        try:
            yield
            old = self.file_backend.old
        finally:
            self.file_backend = backend
        written = {self.last_ckpt, *self._best_files()}
        for path in old:
            if path not in written and self._is_own(path):
                (backend.rmtree if backend.isdir(path) else backend.remove)(path)

    def _is_own(self, path: str) -> bool:
        out_dir = str(self.out_dir)
        if '://' in out_dir:
            return str(path).startswith(out_dir)
        return Path(path).absolute().is_relative_to(Path(out_dir).absolute())

    def _best_files(self) -> list[Optional[str]]:
        return [getattr(self, 'best_ckpt_path', None), *getattr(self, 'best_ckpt_path_dict', {}).values()]


class _Postponing:
    """A file backend of mmengine that only notes which files to remove."""

    def __init__(self, backend: Any) -> None:
        self.backend, self.old = backend, []  # type: ignore[var-annotated]

    def remove(self, path: str) -> None:
        """Note a file."""
        self.old.append(path)

    rmtree = remove

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)
