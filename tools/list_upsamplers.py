"""List the registered upsamplers, or print what each can do and adds to a model; the same as ``python -m mmdysample.catalogue.command``."""

import os

# Set before torch is imported, or its profiler would log every start and stop.
os.environ.setdefault('KINETO_LOG_LEVEL', '99')
os.environ.setdefault('TORCH_CPP_LOG_LEVEL', 'ERROR')

from mmdysample.engine.errors import exit_on_error

with exit_on_error():
    from mmdysample.catalogue.command import main

if __name__ == '__main__':
    main()
