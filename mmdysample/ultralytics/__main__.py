"""The command ``yolo`` with the rows of mmdysample: ``python -m mmdysample.ultralytics train model=yolo11n-dysample.yaml data=...``."""

from typing import Any

import ultralytics
from ultralytics.cfg import entrypoint


def main() -> None:
    """Run Ultralytics' command line.

    Ultralytics 8.0 takes every model with "sam" in its path for a Segment Anything Model, and so every DySample.
    """
    if 'SAM' in vars(ultralytics):  # newer versions import it lazily and look for longer names
        stock = ultralytics.SAM

        def sam_or_yolo(model: Any) -> Any:
            return ultralytics.YOLO(model) if 'dysam' in str(model).lower() else stock(model)

        ultralytics.SAM = sam_or_yolo
    entrypoint()


if __name__ == '__main__':
    main()
