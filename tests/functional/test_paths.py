import pytest
import torch
from torch import nn

from mmdysample import DySample
from mmdysample.functional import choose_path, explain_path, paths
from mmdysample.upsamplers import dysample as upsampler


@pytest.fixture
def x():
    return torch.zeros(1, 4, 3, 5)


@pytest.fixture(autouse=True)
def _nothing_is_forced(monkeypatch):
    monkeypatch.setattr(paths, 'FORCED', None)
    monkeypatch.setattr(paths, 'INTERPRETED', False)
    paths.why_no_kernels.cache_clear()
    yield
    paths.why_no_kernels.cache_clear()


WITHOUT_KERNELS = 'this path saves fewer tensors for the backward pass, and the kernels are not available: '


def gpu_map(dtype=torch.float32, size=(3, 5)):
    """What is asked of a map on a GPU, on machines without one."""

    class Map:
        device = torch.device('cuda', 0)
        is_cuda = True
        shape = (1, 4, *size)

    Map.dtype = dtype
    return Map()


@pytest.fixture
def a_gpu(monkeypatch):
    monkeypatch.setattr(paths, 'WHY_NO_TRITON', '')
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: (8, 0))
    monkeypatch.setattr(paths.self_check, 'why_broken', lambda device, dtype: '')


def test_training_and_inference_on_a_cpu(x, monkeypatch):
    monkeypatch.setattr(paths, 'WHY_NO_TRITON', '')
    assert choose_path(x) == 'lean'
    assert choose_path(x, training=False) == 'plain'
    path, why = explain_path(x)
    assert path == 'lean'
    assert why == WITHOUT_KERNELS + 'the map is on cpu, not on a GPU'


def test_other_devices_take_operations_of_torch():
    assert choose_path(torch.empty(1, 4, 3, 5, device='meta')) == 'plain'


@pytest.mark.usefixtures('a_gpu')
def test_a_gpu_takes_the_kernels(monkeypatch):
    assert explain_path(gpu_map()) == ('fused', 'the map is on a GPU, and Triton is installed')
    assert choose_path(gpu_map(torch.bfloat16), training=False) == 'fused'
    for case, s, reason in (
        (gpu_map(torch.float64), 2, 'they compute in float32, and the map is float64'),
        (gpu_map(size=(2**15, 2**14)), 2, 'they support at most 2147479552 output pixels'),
        (gpu_map(size=(1, 2**31 - 1)), 1, 'they support at most 2147479552 output pixels'),  # the last block exceeds 32 bits
    ):
        path, why = explain_path(case, scale_factor=s)
        assert path == 'lean'
        assert reason in why
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: (6, 1))
    paths.why_no_kernels.cache_clear()
    assert 'compute capability 7.0' in explain_path(gpu_map())[1]
    monkeypatch.setattr(paths, 'WHY_NO_TRITON', 'Triton is not installed')
    paths.why_no_kernels.cache_clear()
    assert explain_path(gpu_map()) == ('lean', WITHOUT_KERNELS + 'Triton is not installed')


@pytest.mark.usefixtures('a_gpu')
@pytest.mark.parametrize(('triton', 'path'), [('3.2.0', 'lean'), ('3.3.0', 'fused')])
def test_bfloat16_on_an_old_gpu_needs_a_new_triton(monkeypatch, triton, path):
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: (7, 5))
    monkeypatch.setattr(paths, '_triton_version', lambda: triton)
    assert choose_path(gpu_map(torch.bfloat16)) == path
    assert choose_path(gpu_map(torch.float16)) == 'fused'


def test_what_triton_needs(monkeypatch, tmp_path):
    monkeypatch.delenv('CC', raising=False)
    monkeypatch.setattr(paths, 'find_spec', lambda name: name)
    monkeypatch.setattr(paths, 'which', lambda name: name if name == 'gcc' else None)
    monkeypatch.setattr(paths.sysconfig, 'get_path', lambda name, scheme: tmp_path)
    monkeypatch.delenv('CPATH', raising=False)
    assert 'Python.h is not installed' in paths._find_obstacle()
    (tmp_path / 'Python.h').touch()
    assert paths._find_obstacle() == ''
    monkeypatch.setattr(paths, 'which', lambda name: None)
    assert 'needs a C compiler' in paths._find_obstacle()
    monkeypatch.setenv('CC', 'cc')
    assert paths._find_obstacle() == ''
    monkeypatch.setattr(paths, 'find_spec', lambda name: None)
    assert paths._find_obstacle() == 'Triton is not installed'


@pytest.mark.usefixtures('a_gpu')
def test_a_gpu_without_kernels_is_deterministic_if_asked_to_be():
    torch.use_deterministic_algorithms(True)
    try:
        path, why = explain_path(gpu_map(torch.float64))
        assert choose_path(gpu_map()) == 'fused'
    finally:
        torch.use_deterministic_algorithms(False)
    assert path == 'plain'
    assert why.startswith('deterministic algorithms are on')


def test_the_environment_and_the_argument_force_one(x, monkeypatch):
    monkeypatch.setattr(paths, 'FORCED', 'plain')
    assert explain_path(x) == ('plain', 'MMDYSAMPLE_PATH forces this path')
    assert explain_path(x, path='lean') == ('lean', 'the argument path forces this path')
    assert DySample(4, path='lean').path == 'lean'
    monkeypatch.setattr(paths, 'FORCED', None)
    assert choose_path(x, training=False) == 'plain'


def test_the_module_says_whether_there_will_be_a_backward_pass(x, monkeypatch):
    seen = []
    monkeypatch.setattr(upsampler, 'choose_path', lambda x, training, **_: seen.append(training) or 'plain')
    module = DySample(4)
    module(x)
    with torch.no_grad():
        module(x)
    module.requires_grad_(False)(x)
    module(x.clone().requires_grad_())
    assert seen == [True, False, False, True]


@pytest.mark.parametrize(
    ('path', 'message'),
    [
        ('fast', "the argument path must be one of plain, lean, fused, got 'fast'"),
        ('fused', r"the argument path is 'fused', which is not available here: .*; leave it out, or use 'lean'"),
    ],
)
def test_what_cannot_be_had(x, path, message):
    with pytest.raises(ValueError, match=message):
        choose_path(x, path=path)


def test_names_what_is_wrong_in_the_environment(x, monkeypatch):
    monkeypatch.setattr(paths, 'FORCED', 'best')
    with pytest.raises(ValueError, match="MMDYSAMPLE_PATH must be one of plain, lean, fused, got 'best'"):
        DySample(4)(x)


def test_the_module_names_an_unknown_path():
    with pytest.raises(ValueError, match="path must be one of plain, lean, fused, or None, got 'best'"):
        DySample(4, path='best')


def test_exporters_get_plain_operations_whatever_is_forced(x):
    module = DySample(4, path='lean')
    operators = {str(node.target) for node in torch.export.export(module, (x,)).graph.nodes}
    assert any('grid_sampler' in name for name in operators)
    assert not any('mmdysample' in name for name in operators)
    kinds = {node.kind() for node in torch.jit.trace(module, x).inlined_graph.nodes()}
    assert 'aten::grid_sampler' in kinds
    assert not any(kind.startswith('mmdysample') for kind in kinds)


def test_a_compiled_model_keeps_the_operator(x):
    seen = []

    def backend(graph, _):
        seen.extend(str(node.target) for node in graph.graph.nodes)
        return graph

    module = DySample(4).eval()
    with torch.no_grad():
        torch.compile(module, fullgraph=True, backend=backend)(x)
    torch.compiler.reset()
    # Before torch 2.7, a compiler cannot be told from an exporter, which needs plain operations.
    assert any('mmdysample' in name for name in seen) == hasattr(torch.compiler, 'is_exporting')


def test_torch_func_transforms_the_module():
    module = DySample(4, dyscope=True).double()
    nn.init.normal_(module.offset.weight)
    x = torch.randn(2, 1, 4, 3, 5, dtype=torch.float64)
    out = torch.func.vmap(module)(x)
    torch.testing.assert_close(out[1], module(x[1]))
    grad = torch.func.grad(lambda x: module(x).square().sum())(x[0])
    leaf = x[0].clone().requires_grad_()
    module(leaf).square().sum().backward()
    torch.testing.assert_close(grad, leaf.grad)
