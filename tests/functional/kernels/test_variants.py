"""Training at many sizes must not compile the kernels again and again: Triton compiles a variant for each kind of argument."""

import json
import os
import subprocess
import sys

import pytest
from kernel_variants import UNKNOWN

pytest.importorskip('triton')

# A variant for each kind of strides (contiguous, channels_last, others, maps of one pixel) and each alignment of maps that are parts of
# others; sample_backward also has one without the gradient of the map. A map that is contiguous in memory has two, one for 1x1 pixels.
VARIANTS = {'sample': 8, 'sample_backward': 18, 'locate': 4, 'gather_gradient': 8}


@pytest.mark.slow
def test_a_thousand_maps_need_few_variants():
    environment = {key: value for key, value in os.environ.items() if key != 'TRITON_INTERPRET'}
    command = [sys.executable, '-W', 'ignore', 'tests/kernel_variants.py']
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode == UNKNOWN:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout) == VARIANTS
