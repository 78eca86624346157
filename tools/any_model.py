"""Put DySample into models that know nothing of it; the same as ``python -m mmdysample.catalogue.any_model``."""

from mmdysample.engine.errors import exit_on_error

with exit_on_error():
    from mmdysample.catalogue.any_model import main

if __name__ == '__main__':
    main()
