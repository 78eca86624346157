"""Check the label maps of semantic segmentation."""

from collections.abc import Iterator

from .findings import Finding
from .source import Source


def check_label_maps(source: Source, full: bool) -> Iterator[Finding]:
    """Check the images and label maps of a dataset in ADE20K's layout.

    Args:
        source: The dataset.
        full: Whether to read everything, or only what takes seconds.

    Yields:
        What is wrong.
    """
    if 'seg_map_path' not in source.folders:
        return
    yield from ()
