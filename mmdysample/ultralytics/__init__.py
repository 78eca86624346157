"""Upsamplers as rows of Ultralytics' yaml files.

::

    import mmdysample.ultralytics
    from ultralytics import YOLO

    YOLO('yolo11n-dysample.yaml').train(data='coco8.yaml')

A row is ``[-1, 1, DySample, []]``, ``[-1, 1, DySample, [2]]`` or ``[-1, 1, DySample, [2, 'lp']]``. Its arguments are those of the upsampler
without the channels, which are inferred. Every upsampler that is not guided can be named, also one of your own
(:func:`~mmdysample.register_upsampler`).

Importing this package changes functions of Ultralytics in this process, see :mod:`mmdysample.ultralytics.plugin`. It needs neither mmengine
nor mmcv. A checkpoint with such rows imports it when it is loaded.
"""

from mmdysample.frameworks import require_package

require_package('ultralytics', 'mmdysample.ultralytics')
from .plugin import install  # noqa: E402

install()
