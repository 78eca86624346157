"""Print how many variants of each kernel Triton compiles over many sizes, as JSON.

Triton's own launcher decides what is a variant. A stand-in for its driver makes it believe in a GPU, a hook counts each variant instead of
compiling it, and maps on torch's meta device have sizes, strides and addresses but no memory. TRITON_INTERPRET must not be set.
"""

import json
import random
import sys
from collections import defaultdict

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from mmdysample.functional import initial_position
from mmdysample.functional.kernels import launch

S = 2
UNKNOWN = 3  # exit code
LAYOUTS = {
    'contiguous': lambda b, c, h, w: torch.empty(b, c, h, w, device='meta'),
    'channels_last': lambda b, c, h, w: torch.empty(b, h, w, c, device='meta').permute(0, 3, 1, 2),
    'every other pixel': lambda b, c, h, w: torch.empty(b, c, 2 * h, 2 * w, device='meta')[:, :, ::2, ::2],
    'cropped': lambda b, c, h, w: torch.empty(b, c, h + 2, w + 4, device='meta')[:, :, 1:-1, :w],
}


class Driver:
    """Answers what the launcher asks of a driver before it compiles."""

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0

    def get_current_target(self):
        return GPUTarget('cuda', 90, 32)

    def __getattr__(self, name):
        unknown(f'it asks its driver for {name}')


def unknown(reason):
    """Exit, because this Triton launches kernels in another way than those that this file knows."""
    print(f'Triton {triton.__version__}: {reason}', file=sys.stderr)
    sys.exit(UNKNOWN)


def set_hook(hook):
    """Let Triton call a hook before it compiles; True from the hook leaves the kernel uncompiled."""
    if hasattr(triton, 'knobs') and hasattr(triton.knobs.runtime, 'jit_cache_hook'):
        triton.knobs.runtime.jit_cache_hook = hook  # since Triton 3.4
    elif hasattr(triton.runtime.JITFunction, 'cache_hook'):
        triton.runtime.JITFunction.cache_hook = hook
    else:
        unknown('no hook before compilation')


def random_map(draw):
    """A layout, a batch, groups, channels in a group, a height and a width: odd, even, multiples of 16, or 1."""
    lengths = (1, 2 * draw.randrange(1, 200) + 1, 2 * draw.randrange(1, 200), 16 * draw.randrange(1, 25))
    # At least 33 channels, because fewer choose smaller blocks.
    return draw.choice(list(LAYOUTS)), draw.randrange(1, 9), draw.choice((1, 3, 4, 16)), draw.choice((33, 48)), *draw.choices(lengths, k=2)


def count(maps):
    """Launch every kernel at every size and layout; return the number of variants by kernel."""
    variants = defaultdict(set)

    def remember(**compiled):
        if not {'key', 'fn'} <= compiled.keys():
            unknown('the hook gets no key')
        variants[compiled['fn'].name].add(compiled['key'])
        return True

    set_hook(remember)
    driver.set_active(Driver())
    for layout, batch, groups, share, height, width in maps:
        make = LAYOUTS[layout]
        x, grad = make(batch, groups * share, height, width), make(batch, groups * share, S * height, S * width)
        offset, scope = (make(batch, 2 * groups * S * S, height, width) for _ in range(2))
        arguments = (x, offset, scope, initial_position(S, groups).to('meta'), 0.25, S, groups)
        launch.sample_fused(*arguments, launch.BLOCKS)
        for deterministic in (False, True):
            torch.use_deterministic_algorithms(deterministic)
            launch.sample_fused_backward(grad, *arguments, True, True, launch.BLOCKS)
    return {name: len(keys) for name, keys in variants.items()}


if __name__ == '__main__':
    draw = random.Random(0)
    print(json.dumps(count(random_map(draw) for _ in range(1000))))
