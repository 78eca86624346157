"""Necks, heads, backbones and detectors that extend those of mmdet and mmseg with an ``upsample_cfg``."""
