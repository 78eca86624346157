"""Necks, heads, backbones and detectors that extend those of mmdet and mmseg, most of them by an ``upsample_cfg``."""
