"""Train and test the rows of the paper's tables, and print them with a column of your own."""

import sys
from pathlib import Path

from mmdysample.analysis.reproduction.command import main

if __name__ == '__main__':
    sys.exit(main(Path(__file__).parents[1]))
