"""The FPN to extend: mmdet's, or mmseg's where mmdet is not installed."""

from importlib.util import find_spec
from typing import Any, Union

from mmdysample.frameworks import require

if find_spec('mmdet') is None and find_spec('mmseg') is not None:
    require('mmseg', 'mmdysample.FPN')
    from mmseg.models.necks import FPN as MmsegFPN

    class StockFPN(MmsegFPN):
        """mmseg's FPN, with the arguments read as mmdet reads them.

        The two are one network, but mmseg counts ``end_level`` exclusively, and takes ``add_extra_convs=True`` for ``'on_output'``.
        """

        def __init__(self, *args: Any, end_level: int = -1, add_extra_convs: Union[bool, str] = False, **kwargs: Any) -> None:
            if end_level != -1:
                end_level += 1
            if add_extra_convs is True:
                add_extra_convs = 'on_input'
            super().__init__(*args, end_level=end_level, add_extra_convs=add_extra_convs, **kwargs)
else:
    require('mmdet', 'mmdysample.FPN')
    from mmdet.models.necks import FPN as StockFPN  # type: ignore[no-redef]  # noqa: F401
