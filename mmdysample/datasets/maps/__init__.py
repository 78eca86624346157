"""Images with a map each: the checks of label maps and of depth maps."""
