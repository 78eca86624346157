"""Training at many sizes must not compile the kernels again and again: Triton compiles a variant for each kind of argument."""

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip('triton')

from kernel_variants import UNKNOWN

# Variants differ in strides (contiguous, channels_last, others, maps of one pixel), in the alignment of maps that are parts of others, and
# in whether sample_backward computes the gradient of the map. Contiguous maps alone need 2, 4, 2 and 2.
VARIANTS = {'sample': 8, 'sample_backward': 18, 'locate': 4, 'gather_gradient': 8}


@pytest.mark.slow
def test_a_thousand_maps_need_few_variants():
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)}
    environment.pop('TRITON_INTERPRET', None)
    command = [sys.executable, '-W', 'ignore', 'tests/kernel_variants.py']
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode == UNKNOWN:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout) == VARIANTS
