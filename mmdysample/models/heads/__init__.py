"""Heads with a configurable upsampler. :mod:`mmdysample.registry` imports each when it is first used, because it needs mmdet or mmseg."""
