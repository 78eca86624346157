"""Name the file when data cannot be loaded."""

import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS

from .image_files import check_pixels
from .last_file import remember

WHERE = '(MMDYSAMPLE_TRACEBACK=1 shows where)'
START, SCAN, END = b'\xff\xd8', b'\xda', b'\xff\xd9'  # JPEG's markers


class DataError(ValueError):
    """Data of the user that cannot be used. The message is one line that names the file."""


def build_dataset(config: dict[str, Any]) -> Any:
    """Build a dataset whose errors name the file; see :func:`name_files`.

    Raises:
        DataError: The annotations or the folders of the dataset cannot be read.
    """
    with naming_the_dataset():
        dataset = DATASETS.build(config)
    name_files(dataset)
    return dataset


def name_files(dataset: Any) -> None:
    """Make a dataset raise a :class:`DataError` that names the file, whatever goes wrong while it loads an item.

    Args:
        dataset: A built dataset of mmengine, mmdet or mmseg, or a wrapper of such datasets, changed in place.
    """
    for inner in (getattr(dataset, 'dataset', None), getattr(dataset, '_dataset', None), *getattr(dataset, 'datasets', ())):
        if inner is not None:
            name_files(inner)
    if isinstance(dataset, BaseDataset):
        # The pipeline itself cannot be wrapped for good: mmdet's PipelineSwitchHook replaces it during training.
        dataset.prepare_data = _Loading(dataset)
    elif isinstance(getattr(dataset, 'pipeline', None), list):  # MultiImageMixDataset of mmdet and mmseg
        dataset.pipeline = [_Mixing(step) for step in dataset.pipeline]


@contextmanager
def naming_the_dataset() -> Iterator[None]:
    """Turn an error of a dataset that reads its annotations into a :class:`DataError`. Errors in its arguments stay as they are.

    Raises:
        DataError: The annotations or the folders of a dataset cannot be read.
    """
    try:
        yield
    except Exception as error:
        reading = [owner for owner, function in calls(error) if function == 'full_init' and isinstance(owner, BaseDataset)]
        if not reading:
            raise
        dataset = reading[-1]
        where = dataset.ann_file or ', '.join(map(str, dataset.data_prefix.values())) or dataset.data_root
        if not dataset.data_list and 'at least one array' in str(error):
            raise DataError(f'nothing is left of {where}: each of its entries lacks what {type(dataset).__name__} needs') from error
        raise DataError(f'{type(dataset).__name__} cannot read {where}: {_told(error)} {WHERE}') from error


def is_cut_off(path: str) -> bool:
    """Return True for a JPEG file whose end is missing.

    OpenCV 4 fills the missing part with grey and returns the image. Every other format that is cut off is refused by each library.

    Raises:
        OSError: The file cannot be read.
    """
    file = os.open(path, os.O_RDONLY)
    try:
        if os.read(file, 2) != START:
            return False
        os.lseek(file, -2, os.SEEK_END)
        if os.read(file, 2) == END:
            return False
    finally:
        os.close(file)
    # Some cameras write more after the end of the image, and a thumbnail before its pixels has an end of its own.
    content = Path(path).read_bytes()
    at = len(START)
    while content[at : at + 1] == b'\xff' and content[at + 1 : at + 2] != SCAN:
        # Bytes of 0xff may fill the space before a marker.
        at += 1 if content[at + 1 : at + 2] in (b'\xff', b'') else 2 + int.from_bytes(content[at + 2 : at + 4], 'big')
    return END not in content[at:]


class _Loading:
    """Load an item of a dataset, in place of the method ``prepare_data``.

    A class of this module, because worker processes that are spawned get the dataset as a pickle.
    """

    def __init__(self, dataset: BaseDataset) -> None:
        self.dataset = dataset
        self.empty = 0  # items in a row for which the pipeline returned nothing
        self.said = False

    def __call__(self, index: int) -> Any:
        dataset, kind = self.dataset, type(self.dataset)
        files: list[str] = []
        try:
            info = dataset.get_data_info(index)
            files = [value for key, value in info.items() if key.endswith('path') and isinstance(value, str)]
            remember(_named(files, index))
            for file in filter(_is_cut_off, files):
                raise DataError(f'{file} is cut off, the end of the JPEG image is missing: replace it, or {self._remedy}')
            # A class with a method of its own, as for videos, needs the index.
            item = dataset.pipeline(info) if kind.prepare_data is BaseDataset.prepare_data else kind.prepare_data(dataset, index)
        except DataError:
            raise
        except Exception as error:
            raise DataError(self._explain(error, files, index)) from error
        self.empty = 0 if item is not None else self.empty + 1
        if self.empty:
            self._take_another(files, index)
        return item

    def _take_another(self, files: list[str], index: int) -> None:
        if self.dataset.test_mode or self.empty > self.dataset.max_refetch:
            times = f'{self.empty} items in a row, at last ' if self.empty > 1 else ''
            raise DataError(f'the pipeline returned nothing for {times}{_named(files, index)}')
        steps = getattr(self.dataset.pipeline, 'transforms', ())
        if not self.said and any(getattr(step, 'ignore_empty', False) for step in steps):
            for fault in filter(None, map(_fault, files)):
                print(f'warning: {fault}; other images take the place of such files, because of ignore_empty', flush=True)
                self.said = True

    @property
    def _remedy(self) -> str:
        return f'remove its entry from {self.dataset.ann_file}' if self.dataset.ann_file else 'remove the image and its labels'

    def _explain(self, error: Exception, files: list[str], index: int) -> str:
        if isinstance(error, FileNotFoundError) and error.filename:
            return f'there is no file {error.filename}: put it there, or {self._remedy}'
        if isinstance(error, OSError) and error.filename:
            return f'{error.filename} cannot be read ({error.strerror}): replace it, or {self._remedy}'
        step = next((type(owner).__name__ for owner, _ in reversed(calls(error)) if hasattr(owner, 'transform')), '')
        if step.startswith('Load') and not isinstance(error, MemoryError):
            for fault in filter(None, map(_fault, files)):
                return f'{fault}: replace it, or {self._remedy}'
        seen = f' and at its entry in {self.dataset.ann_file}' if self.dataset.ann_file else ''
        how = f'{step}: ' if step else ''
        return f'{_named(files, index)} cannot be loaded ({how}{_told(error)}): look at the file{seen} {WHERE}'


class _Mixing:
    """A step of a pipeline that mixes several images, such as Mosaic."""

    def __init__(self, step: Any) -> None:
        self.step = step

    def __call__(self, results: dict) -> Any:
        mixed = [part.get('img_path') for part in (results, *results.get('mix_results', ()))]
        try:
            return self.step(results)
        except Exception as error:
            names = ', '.join(str(path) for path in mixed if path)
            raise DataError(f'{names or "an item"} cannot be loaded ({type(self.step).__name__}: {_told(error)}) {WHERE}') from error

    def __getattr__(self, name: str) -> Any:
        if name == 'step' or name.startswith('__'):  # asked for while this object is copied or unpickled
            raise AttributeError(name)
        return getattr(self.step, name)


def _is_cut_off(file: str) -> bool:
    try:
        return is_cut_off(file)
    except OSError:  # the pipeline may not read it, or knows where it is
        return False


def _fault(file: str) -> Optional[str]:
    """Return what is wrong with an image file, or None if it can be decoded or is not there."""
    if not os.path.isfile(file):
        return None
    try:
        check_pixels(Path(file))
    except ValueError as fault:
        return str(fault)
    return None


def _named(files: list[str], index: int) -> str:
    return ' with '.join(files) or f'item {index}'


def _told(error: Exception) -> str:
    return f'{type(error).__name__}: {" ".join(str(error).split())[:300]}'


def calls(error: BaseException) -> list[tuple[Any, str]]:
    """Return the object and the name of each method that an error has passed through, from the outermost to the innermost."""
    return [(frame.f_locals.get('self'), frame.f_code.co_name) for frame, _ in traceback.walk_tb(error.__traceback__)]
