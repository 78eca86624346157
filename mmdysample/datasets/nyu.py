"""NYU's layout for depth estimation, with images of any name."""

from mmdysample.frameworks import require
from mmdysample.registry import DATASETS

require('mmseg', 'mmdysample.NYUDataset')

from mmseg.datasets import NYUDataset as StockNYUDataset  # noqa: E402


@DATASETS.register_module()
class NYUDataset(StockNYUDataset):
    """mmseg's dataset of the same name, for image names without a digit as well.

    mmseg takes the kind of a scene from the part of a name that comes before its first digit, such as ``office`` in ``office_0003.jpg``. It
    fails with ``StopIteration`` if there is no digit.
    """

    def _get_category_id_from_filename(self, image_fname: str) -> int:
        """Return the index of the kind of scene, or -1 if the name tells none."""
        named = any(map(str.isdigit, image_fname.split('/')[-1]))
        return super()._get_category_id_from_filename(image_fname) if named else -1
