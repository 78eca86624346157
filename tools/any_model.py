"""Replace the upsampling in models of other libraries with DySample. Same as ``python -m mmdysample.catalogue.any_model``."""

from mmdysample.engine.errors import exit_on_error

with exit_on_error():
    from mmdysample.catalogue.any_model import main

if __name__ == '__main__':
    main()
