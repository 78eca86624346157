"""Write the index of models (model-index.yml and configs/metafiles/) from the paper's tables and the configs."""

from pathlib import Path

from mmdysample.engine.errors import exit_on_error

with exit_on_error():
    from mmdysample.reproduction.metafiles import main

if __name__ == '__main__':
    main(Path(__file__).parents[1])
