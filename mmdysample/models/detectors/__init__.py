"""Detectors that no config of mmdet's own detectors can express. :mod:`mmdysample.registry` imports each when it is first used."""
