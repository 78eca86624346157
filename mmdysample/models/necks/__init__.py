"""Necks that upsample by name. Each needs its framework, and is imported when :mod:`mmdysample.registry` is asked for it."""
