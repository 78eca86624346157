"""Train and test every experiment on Shapes with several upsamplers, and print one table."""

import sys
from pathlib import Path

from mmdysample.engine.errors import exit_on_error

with exit_on_error():
    from mmdysample.reproduction.shapes_table import main

if __name__ == '__main__':
    sys.exit(main(Path(__file__).parents[1]))
