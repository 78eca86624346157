"""The FPN that :mod:`~mmdysample.models.necks.fpn` extends: mmdet's, or mmseg's if mmdet is not installed."""

from importlib.util import find_spec
from typing import Any, Union

from mmdysample.frameworks import require

if find_spec('mmdet') is None and find_spec('mmseg') is not None:
    require('mmseg', 'mmdysample.FPN')
    from mmseg.models.necks import FPN as MmsegFPN

    class StockFPN(MmsegFPN):
        """mmseg's FPN with the meaning that its arguments have in mmdet.

        The two networks are the same, but mmseg's ``end_level`` is exclusive, and its ``add_extra_convs=True`` means ``'on_output'``.
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
