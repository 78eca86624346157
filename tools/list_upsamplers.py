"""Print what every registered upsampler can do and costs; the same as ``python -m mmdysample.analysis.upsamplers``."""

from mmdysample.analysis.upsamplers import main

if __name__ == '__main__':
    main()
