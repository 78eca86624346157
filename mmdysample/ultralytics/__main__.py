"""The command ``yolo`` with the rows of mmdysample: ``python -m mmdysample.ultralytics train model=yolo11n-dysample.yaml data=...``."""

from ultralytics.cfg import entrypoint

if __name__ == '__main__':
    entrypoint()
