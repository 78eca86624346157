"""Put DySample into models that know nothing of it; the same as ``python -m mmdysample.analysis.any_model``."""

from mmdysample.analysis.any_model import main

if __name__ == '__main__':
    main()
