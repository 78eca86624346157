"""Check the depth maps of depth estimation."""

from collections.abc import Iterator

from .findings import Finding
from .source import Source


def check_depth_maps(source: Source, full: bool) -> Iterator[Finding]:
    """Check the images and depth maps of a dataset in NYU's layout.

    Args:
        source: The dataset.
        full: Whether to read everything, or only what takes seconds.

    Yields:
        What is wrong.
    """
    if not {'img_path', 'depth_map_path'} <= source.folders.keys():
        return
    images, depths, suffix = source.folders['img_path'], source.folders['depth_map_path'], source.dataset.get('img_suffix', '.jpg')
    names = sorted(path.relative_to(images).with_suffix('.png') for path in images.rglob(f'*{suffix}'))
    if not names:
        raise ValueError(
            f'there is no image *{suffix} in {images}; set img_suffix of every dataset, as in train_dataloader.dataset.img_suffix'
        )
    missing = [name for name in names if not (depths / name).is_file()]
    if missing:
        raise ValueError(f'{len(missing)} of the {len(names)} images in {images} have no depth map: there is no {depths / missing[0]}')
    yield from ()
