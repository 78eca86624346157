"""Datasets: the built-in Shapes scenes, and users' own folders in COCO format."""
