"""mmengine's runner, which changes nothing until a run is allowed, and names the file or the remedy when the data or the machine fails."""

import errno
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

import torch.distributed as dist
from mmengine.dist import broadcast_object_list
from mmengine.hooks import CheckpointHook as StockCheckpointHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner as StockRunner
from torch.utils.data import DataLoader

from mmdysample.datasets.loading import name_files, naming_the_dataset

from .checkpoint import checkpoints
from .damage import TRAINING
from .errors import StoppedError, one_line
from .failures import explain, of_another_process
from .files import give_up, hold, whole_file, write_through
from .pretrained import checked_loading
from .signals import command_to_continue
from .training.saving import CheckpointHook

FULL = errno.ENOSPC, errno.EDQUOT, errno.EFBIG
PATIENCE = 10  # seconds in which the launcher ends this process, if another one has failed


class Runner(StockRunner):
    """mmengine's runner. Its :meth:`train` and :meth:`test` raise a ``StoppedError`` of one line for bad data and a lack of memory.

    A run begins when the weights are loaded. Until then it may be refused, and :meth:`unless_refused` then leaves the work directory as
    it was: the config is saved when the run begins, and the log is removed if it does not.
    """

    batch: Any = None  # the last batch of a data loader
    begun = False
    saved: Optional[Path] = None  # the checkpoint that this process has saved last
    _shares_log = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        work_dir = Path(kwargs['work_dir'])
        self._new_folders = [folder for folder in (work_dir, *work_dir.parents) if not folder.exists()]
        with self.unless_refused():
            super().__init__(*args, **kwargs)

    def setup_env(self, env_cfg: dict) -> None:
        """Set up the processes, as mmengine does. It has not written anything before.

        Raises:
            ValueError: The run is not allowed. Every process raises it, so that none goes on and writes.
        """
        super().setup_env(env_cfg)
        first: list[Any] = [self._why_not() if self.rank == 0 else None]
        self._shares_log = (Path(self.work_dir) / self.timestamp).exists()  # with a run that began in the same second
        broadcast_object_list(first)  # the others make the folder of the log, and wait here until the first one has looked for it
        if first[0]:
            if dist.is_initialized():
                dist.destroy_process_group()  # its threads may abort a process that ends without this
            raise ValueError(first[0])

    def _why_not(self) -> Optional[str]:
        """Return why the run is not allowed; None if it is."""
        return None

    @contextmanager
    def unless_refused(self) -> Iterator[None]:
        """Remove what was written for this run if the code within raises an error before the run has begun."""
        try:
            yield
        except BaseException:
            if not self.begun:
                if getattr(self, '_rank', 0) == 0:
                    self._remove_log()
                self._remove_folders()
            raise

    def _remove_log(self) -> None:
        for handler in getattr(getattr(self, 'logger', None), 'handlers', ()):
            handler.close()
        # mmengine keeps these for the next run of this process that begins in the same second, and they write to the log.
        for made in (getattr(self, name, None) for name in ('logger', 'visualizer')):
            if made is not None:
                type(made)._instance_dict.pop(made.instance_name, None)
        if hasattr(self, '_log_dir') and not self._shares_log:
            shutil.rmtree(self._log_dir, ignore_errors=True)

    def _remove_folders(self) -> None:
        for folder in self._new_folders:
            try:
                folder.rmdir()
            except OSError:  # another process has written to it
                break

    @staticmethod
    def build_dataloader(dataloader: Any, seed: Optional[int] = None, diff_rank_seed: bool = False) -> DataLoader:
        """Build a data loader whose errors name the file. The arguments are those of mmengine.

        Raises:
            DataError: The annotations or the folders of the dataset cannot be read.
        """
        with naming_the_dataset():
            loader = StockRunner.build_dataloader(dataloader, seed, diff_rank_seed)
        name_files(loader.dataset)
        return loader

    def register_hook(self, hook: Any, priority: Any = None) -> None:
        """Register a hook; in place of mmengine's CheckpointHook, ours. A line says so if another one saves checkpoints."""
        kind = hook.get('type') if isinstance(hook, dict) else type(hook)
        kind = HOOKS.get(kind) if isinstance(kind, str) else kind
        if isinstance(hook, dict) and kind is StockCheckpointHook:
            hook = {**hook, 'type': CheckpointHook}
        elif isinstance(kind, type) and issubclass(kind, StockCheckpointHook) and not issubclass(kind, CheckpointHook):
            self.logger.warning(
                f'{kind.__name__} saves checkpoints without random states, so a training that resumes from one draws other random numbers'
            )
        super().register_hook(hook, priority)

    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, **kwargs: Any) -> None:
        """Save a checkpoint under a temporary name, and rename it when it is complete and on the disk."""
        if '://' in str(out_dir):
            super().save_checkpoint(out_dir, filename, *args, **kwargs)
            return
        part, path = Path(out_dir) / f'.{filename}.part', Path(out_dir) / filename
        try:
            super().save_checkpoint(out_dir, part.name, *args, **kwargs)  # does nothing in processes other than the first
            if self.rank == 0:
                write_through(part)
                part.replace(path)
                write_through(path.parent)
        except BaseException:  # such as a full disk or an interruption
            if self.rank == 0:
                part.unlink(missing_ok=True)
            raise
        if TRAINING.fullmatch(path.stem):
            self.saved = path

    def dump_config(self) -> None:
        """Do not save the config yet: a run that is refused must leave the config of an earlier run as it is."""

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """Call the hooks, and remember the batch that they are called with. Before the first batch, save the config."""
        if fn_name in ('before_train', 'before_test') and not self.begun:
            self.begun = True
            if self.rank == 0:
                with whole_file(Path(self.work_dir) / Path(self.cfg.filename or f'{self.timestamp}.py').name) as file:
                    file.write(self.cfg.pretty_text.encode())
        self.batch = kwargs.get('data_batch', self.batch)
        super().call_hook(fn_name, **kwargs)

    def train(self) -> Any:
        """Train the model, as mmengine does.

        Raises:
            StoppedError: The data or the machine has failed. The message says how to continue.
        """
        with self._explaining():
            return super().train()

    def test(self) -> dict:
        """Test the model, as mmengine does.

        Raises:
            StoppedError: The data or the machine has failed.
        """
        with self._explaining():
            return super().test()

    def _init_model_weights(self) -> None:
        try:
            with checked_loading(self.model):
                super()._init_model_weights()
        except ValueError as error:
            raise StoppedError(one_line(error)) from error

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            with self.unless_refused():
                yield
        except KeyboardInterrupt as error:
            raise type(error)(f'interrupted{self._to_continue()}') from None
        except Exception as error:
            text = explain(error, self.batch) or self._unwritable(error)
            if text is None and dist.is_initialized() and of_another_process(error):
                time.sleep(PATIENCE)  # that process names the reason, and then the launcher ends this one
                text = 'another process of this training has ended'
            if text is None:
                raise
            raise StoppedError(f'{text}{self._to_continue()}') from error

    def _unwritable(self, error: Exception) -> Optional[str]:
        """Return why the work directory cannot be written, if that is the error."""
        if not isinstance(error, OSError):
            return None
        inside = isinstance(error.filename, str) and Path(error.filename).is_relative_to(Path(self.work_dir))
        return f'{self.work_dir} cannot be written: {one_line(error)}' if inside or error.errno in FULL else None

    def _to_continue(self) -> str:
        if self._train_loop is None or isinstance(self._train_loop, dict):
            return ''  # it only tests
        if self.saved is None:
            command = command_to_continue()
            since, verb = (
                (f'since {Path(self._load_from).name}', 'continue') if self._resume and self._load_from else ('yet', 'start again')
            )
            return f'; no checkpoint was saved {since}' + (f': {verb} with {command}' if command else '')
        is_latest = checkpoints(Path(self.work_dir))[:1] == [self.saved]
        command = command_to_continue(resume='auto' if is_latest else str(self.saved))
        return f'; {self.saved.name} is saved: continue with {command or "--resume"}'


class TrainingRunner(Runner):
    """A runner that trains. It locks the work directory before it writes there."""

    def _why_not(self) -> Optional[str]:
        try:
            hold(Path(self.work_dir))
        except (ValueError, OSError) as error:
            return one_line(error)
        return None

    def _remove_log(self) -> None:
        give_up(Path(self.work_dir))
        super()._remove_log()
