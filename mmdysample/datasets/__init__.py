"""Data: the built-in Shapes scenes, and COCO-format folders of the user's own."""
