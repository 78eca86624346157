"""Make mmengine pass over the folders that programs put beside a user's files."""

from collections.abc import Iterator
from typing import Any

from mmengine.fileio import io, register_backend
from mmengine.fileio.backends import LocalBackend

from .image_files import is_hidden


class VisibleFiles(LocalBackend):
    """mmengine's backend for local files without hidden folders.

    mmengine passes over hidden files, but not over files in hidden folders. So mmseg would read the copies that Jupyter keeps in
    ``.ipynb_checkpoints/``, and the thumbnails that a Synology disk keeps in ``@eaDir/``, as images.
    """

    def list_dir_or_file(self, *args: Any, **kwargs: Any) -> Iterator[str]:
        """Yield the names that mmengine's backend yields, relative to the folder, unless one of their parts is hidden."""
        return (name for name in super().list_dir_or_file(*args, **kwargs) if not is_hidden(name))


def pass_over_hidden_folders() -> None:
    """Make every dataset that lists a local folder through mmengine use :class:`VisibleFiles`."""
    register_backend('local', VisibleFiles, force=True, prefixes='')
    for key, backend in list(io.backend_instances.items()):
        if type(backend) is LocalBackend:
            del io.backend_instances[key]
