"""Code that the command lines in ``tools/`` share: configs, checkpoints, runners and reports."""
