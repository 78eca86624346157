"""Annotations in COCO's format: how they are read, checked, mended and handed to mmdet."""
