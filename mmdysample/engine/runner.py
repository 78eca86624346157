"""mmengine's runner, which names the file or the remedy when the data or the machine fails."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

import torch.distributed as dist
from mmengine.runner import Runner as StockRunner
from torch.utils.data import DataLoader

from mmdysample.datasets.loading import name_files, naming_the_dataset

from .checkpoint import checkpoints
from .errors import StoppedError, one_line
from .failures import explain, of_another_process
from .pretrained import checked_loading

PATIENCE = 10  # seconds in which the launcher ends this process, if another one has failed


class Runner(StockRunner):
    """mmengine's runner. Its :meth:`train` and :meth:`test` raise a ``StoppedError`` of one line for bad data and a lack of memory."""

    batch: Any = None  # the last batch of a data loader

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

    def dump_config(self) -> None:
        """Do not save the config yet: a run whose weights are refused must leave the config of an earlier run as it is."""

    def write_config(self) -> None:
        """Save the config in the work directory."""
        super().dump_config()

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """Call the hooks, and remember the batch that they are called with."""
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
            yield
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f'interrupted{self._to_continue()}') from None
        except Exception as error:
            text = explain(error, self.batch)
            if text is None and dist.is_initialized() and of_another_process(error):
                time.sleep(PATIENCE)  # that process names the reason, and then the launcher ends this one
                text = 'another process of this training has ended'
            if text is None:
                raise
            raise StoppedError(f'{text}{self._to_continue()}') from error

    def _to_continue(self) -> str:
        if self._train_loop is None or isinstance(self._train_loop, dict):
            return ''  # it only tests
        saved = checkpoints(Path(self.work_dir))
        return f'; {saved[0].name} is saved: continue with --resume' if saved else '; no checkpoint was saved yet'
