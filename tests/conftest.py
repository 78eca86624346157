import gc
import json
import os
import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parent.parent
COCO128 = ROOT.parent / 'shared/data/coco128'

os.environ.setdefault('OMP_NUM_THREADS', '2')
if not torch.cuda.is_available():
    # Whether kernels are compiled or interpreted is settled when Triton is first imported, by whatever imports it.
    os.environ.setdefault('TRITON_INTERPRET', '1')


def pytest_collection_finish():
    # mmengine collects garbage for each dataset that it builds: 0.25 s each, until what was imported is left out of it.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)  # the default takes 4 to 15 % of the time of the tests


def pytest_unconfigure():
    gc.unfreeze()  # Triton's bindings say at the end of the process which of their objects are left


@pytest.fixture(autouse=True, scope='session')
def _format_a_config_once():
    """A runner formats its config three times, 0.05 to 0.5 s each, and the same text gives the same result."""
    if find_spec('mmengine') is None:  # the core's tests need torch alone
        yield
        return
    from mmengine.config import config
    from yapf.yapflib import yapf_api

    owner = config if hasattr(config, 'FormatCode') else yapf_api  # OneDL imports it where it is called
    format_code, known = owner.FormatCode, {}

    def format_once(code, **options):
        key = code, repr(options)
        if key not in known:
            known[key] = format_code(code, **options)
        return known[key]

    owner.FormatCode = format_once
    yield
    owner.FormatCode = format_code


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)
    np.random.seed(0)


@pytest.fixture(autouse=True)
def _leave_the_environment_alone():
    """The tools set variables for their own process: how checkpoints are loaded, and the rank."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture(autouse=True)
def _leave_scopes_and_loggers_alone():
    """Whatever default scope or logger a test sets is gone after it: a logger writes to the output of its test, which is closed then."""
    if find_spec('mmengine') is None:
        yield
        return
    from mmengine.logging import MMLogger
    from mmengine.registry import DefaultScope

    known = {manager: dict(manager._instance_dict) for manager in (DefaultScope, MMLogger)}
    yield
    for manager, before in known.items():
        manager._instance_dict.clear()
        manager._instance_dict.update(before)


@pytest.fixture(scope='session')
def coco128() -> Path:
    if not COCO128.is_dir():
        pytest.skip(f'the real images of coco128 are not here ({COCO128.name} is looked for beside the repository, in shared/data)')
    return COCO128


@pytest.fixture(scope='session')
def shapes(tmp_path_factory) -> Path:
    """A small set of Shapes scenes."""
    from mmdysample.datasets.shapes_writer import ShapesSpec, ensure_shapes

    root = tmp_path_factory.mktemp('data') / 'shapes'
    ensure_shapes(root, ShapesSpec(train=16, val=8))
    return root


@pytest.fixture
def run_tool(monkeypatch, capfd):
    """Run a tool in this process: what it prints on both streams or, where it is to refuse, its one line of error."""

    def run(name, *arguments, refused=False):
        monkeypatch.setattr(sys, 'argv', [f'{name}.py', *map(str, arguments)])
        if not refused:
            runpy.run_path(f'tools/{name}.py', run_name='__main__')
            return capfd.readouterr()
        with pytest.raises(SystemExit) as exit_:
            runpy.run_path(f'tools/{name}.py', run_name='__main__')
        errors = capfd.readouterr().err
        assert exit_.value.code == 2
        assert errors.startswith('error: ')
        assert errors.count('\n') == 1
        return errors

    return run


class Guided(torch.nn.Module):
    """An upsampler without weights that takes a guide."""

    guided = True

    def __init__(self, in_channels, scale_factor=2):
        super().__init__()
        self.scale_factor = scale_factor


@pytest.fixture
def guide_alone():
    """The name of an upsampler whose result is its guide."""
    from mmengine.registry import MODELS

    @MODELS.register_module(name='GuideAlone', force=True)
    class GuideAlone(Guided):
        def forward(self, x, guide):
            return guide

    yield 'GuideAlone'
    MODELS.module_dict.pop('GuideAlone')


@pytest.fixture
def recorder():
    """The name of a guided upsampler, and a list of its calls: the module, the size of the map, and the guide."""
    from mmengine.registry import MODELS

    calls = []

    @MODELS.register_module(name='Recorder', force=True)
    class Recorder(Guided):
        def forward(self, x, guide):
            calls.append((self, x.shape[2:], guide))
            return x.repeat_interleave(2, 2).repeat_interleave(2, 3)

    yield 'Recorder', calls
    MODELS.module_dict.pop('Recorder')


def mmdet_config(path):
    """A config of mmdet, by its path below those that it carries."""
    mmdet = pytest.importorskip('mmdet')
    file = Path(mmdet.__file__).parent / '.mim/configs' / path
    if not file.is_file():
        pytest.skip('this distribution of mmdet carries no configs')
    return file


def assert_same_training(ours, stock, *inputs):
    """Two modules have the same state dict, and with the same weights the same outputs and gradients, bit for bit."""
    ours.load_state_dict(stock.state_dict())
    results = []
    for module in (ours, stock):
        outs = module(*inputs)
        outs = [outs] if isinstance(outs, torch.Tensor) else list(outs)
        sum(out.sin().sum() for out in outs).backward()
        results.append([*outs, *(p.grad for p in module.parameters()), *module.buffers()])
    for got, expected in zip(*results, strict=True):
        assert (got is None and expected is None) or torch.equal(got, expected)


def golden_cases(name: str):
    """The cases of a golden file: its vectors in float64 and the arguments that they were made with."""
    vectors = np.load(Path(__file__).parent / 'data' / name)
    for i, case in enumerate(json.loads(str(vectors['meta']))):
        prefix = f'{i:02d}/'
        arrays = {key[len(prefix) :]: torch.from_numpy(vectors[key]).double() for key in vectors if key.startswith(prefix)}
        yield pytest.param(case, arrays, id=f'{i:02d}')


def assert_parity(module, golden, names=None, both=False, without_gradient=()):
    """Output and gradients of a module in float64 against golden vectors, below 1e-6 of the largest value.

    Args:
        module: The module, with any weights.
        golden: Vectors of a case; its parameters and buffers are loaded.
        names: What to replace in the names of the golden parameters.
        both: Whether the module also returns its guide, which the golden gradients are then of, too.
        without_gradient: Parameters whose gradient is zero by construction, of which there are no vectors.
    """

    def renamed(key):
        key = key.split('/', 1)[1]
        for old, new in (names or {}).items():
            key = key.replace(old, new)
        return key

    module = module.double().eval()
    module.load_state_dict({renamed(key): value for key, value in golden.items() if key.startswith(('param/', 'buffer/'))})
    inputs = {name: golden[name].requires_grad_() for name in ('x', 'guide') if name in golden}
    if both:
        y, guide = module(*inputs.values(), both=True)
        torch.autograd.backward((y, guide), (golden['grad_y'], golden['grad_y_guide']))
    else:
        y = module(*inputs.values())
        y.backward(golden['grad_y'])
    got = {'y': y, **({'y_guide': guide} if both else {}), **{f'grad_{name}': tensor.grad for name, tensor in inputs.items()}}
    expected = {key: golden[key] for key in got}
    for key, value in golden.items():
        if key.startswith('grad/'):
            got[key], expected[key] = module.get_parameter(renamed(key)).grad, value
    for key in without_gradient:
        assert module.get_parameter(key).grad.abs().max() < 1e-12
    assert len(got) + len(without_gradient) == 1 + both + len(inputs) + len(list(module.parameters()))
    for key, value in expected.items():
        torch.testing.assert_close(
            got[key], value, rtol=0, atol=1e-6 * max(value.abs().max().item(), 1e-12), msg=lambda m, key=key: f'{key}: {m}'
        )
