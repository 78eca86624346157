"""Try what torch does with an upsampler: function transforms, tracing, quantisation, distributed training, averages and copies.

A function for each feature takes the name of an upsampler and returns the cell of the table. It raises an error if the feature fails or
gives a wrong result.
"""

import copy
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Optional

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.testing import assert_close

from .capabilities import CHANNELS, NO, SIZE, UNTRIED, YES, attempt, make, make_inputs

LEAF, FLOAT = 'as a leaf', 'in float'


class Model(nn.Module):
    """A convolution and an upsampler, in evaluation mode and with the same parameters in every instance."""

    def __init__(self, name: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv: nn.Module = nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.upsampler = make(name)
        self.guided = getattr(self.upsampler, 'guided', False)
        self.eval()

    def forward(self, x: Tensor, guide: Optional[Tensor] = None) -> Tensor:
        """Upsample a map after the convolution."""
        return self.upsampler(self.conv(x), guide) if self.guided else self.upsampler(self.conv(x))

    def inputs(self, size: tuple[int, int] = SIZE) -> tuple[Tensor, ...]:
        """Return a map and, for a guided upsampler, a guide, of the dtype of the model."""
        return tuple(tensor.to(next(self.parameters()).dtype) for tensor in make_inputs(self.upsampler, size))


def differentiate(name: str) -> str:
    """Compare the gradients of ``torch.func.grad`` by the parameters with those of autograd."""
    model = Model(name).double()
    inputs, parameters = model.inputs(), dict(model.named_parameters())
    got = torch.func.grad(lambda values: torch.func.functional_call(model, values, inputs).square().sum())(parameters)
    assert_close(list(got.values()), _gradients(model)[1:])
    return YES


def vectorise(name: str) -> str:
    """Compare ``torch.func.vmap`` over two batches with two calls."""
    model = Model(name)
    batches = [torch.stack([tensor, 2 * tensor]) for tensor in model.inputs()]
    assert_close(torch.func.vmap(model)(*batches), torch.stack([model(*inputs) for inputs in zip(*batches)]))
    return YES


def differentiate_forward(name: str) -> str:
    """Compare a directional derivative by ``torch.func.jvp`` with the one by autograd."""
    model = Model(name).double()
    x, *guide = model.inputs()
    direction = torch.randn_like(x)

    def loss(x: Tensor) -> Tensor:
        return model(x, *guide).square().sum()

    got = torch.func.jvp(loss, (x,), (direction,))[1]
    (gradient,) = torch.autograd.grad(loss(x.requires_grad_()), x)
    assert_close(got, (gradient * direction).sum())
    return YES


def take_numpy_integers(name: str) -> str:
    """Build an upsampler with numpy's integers as channels and ratio."""
    import numpy as np

    module = make(name, np.int64(CHANNELS), np.int64(2))
    assert_close(module(*make_inputs(module)), make(name)(*make_inputs(module)))
    return YES


def trace(name: str) -> str:
    """Trace a model by ``torch.fx`` and compare the graph with the model at another size."""
    model = Model(name)
    graph = torch.fx.symbolic_trace(model)
    inputs = model.inputs((7, 6))
    assert_close(graph(*inputs), model(*inputs))
    return LEAF if 'upsampler' in [node.target for node in graph.graph.nodes] else YES


def quantise(name: str) -> str:
    """Quantise a model in eager mode. The upsampler gets the dequantised map."""
    from torch.ao import quantization

    model = Model(name)
    inputs = model.inputs()
    quantised = copy.deepcopy(model)
    quantised.conv = quantization.QuantWrapper(model.conv)
    quantised.qconfig = quantization.get_default_qconfig(torch.backends.quantized.engine)
    prepared = quantization.prepare(quantised)
    prepared(*inputs)
    converted = quantization.convert(prepared)
    assert 'quantized' in type(converted.conv.module).__module__
    assert_close(converted(*inputs), model.upsampler(converted.conv(inputs[0]), *inputs[1:]))
    return FLOAT if _same_layers(converted, model) else YES


def quantise_dynamically(name: str) -> str:
    """Quantise a model by ``quantize_dynamic``, which replaces linear and recurrent layers."""
    from torch.ao import quantization

    model = Model(name)
    quantised = quantization.quantize_dynamic(model)
    assert_close(quantised(*model.inputs()), model(*model.inputs()), rtol=0.1, atol=0.1)
    return FLOAT if _same_layers(quantised, model) else YES


def train_in_parallel(name: str) -> str:
    """Compare the gradients in ``DistributedDataParallel`` with those of the model alone, by gloo in one process."""
    model = Model(name)
    with _one_process():
        got = _gradients(nn.parallel.DistributedDataParallel(model), model.inputs())
    assert_close(got, _gradients(Model(name)))
    return YES


def shard(name: str) -> str:
    """Compare the gradients under FSDP2, which shards model and upsampler, with those of the model alone, by gloo in one process."""
    from torch.distributed.fsdp import fully_shard

    if not hasattr(torch.cpu.Stream, 'record_event'):
        raise ImportError(f'torch {torch.__version__} cannot run FSDP2 on a CPU')
    model = Model(name)
    with _one_process():
        mesh = dist.init_device_mesh('cpu', (1,))
        fully_shard(model.upsampler, mesh=mesh)
        fully_shard(model, mesh=mesh)
        got = [getattr(value, 'full_tensor', lambda value=value: value)() for value in _gradients(model)]
    assert_close(got, _gradients(Model(name)))
    return YES


def average(name: str) -> str:
    """Compare an exponential moving average, buffers included, of weights w and 3w with a model of weights 2w."""
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    model, expected = Model(name), Model(name)
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=True)
    averaged.update_parameters(model)
    with torch.no_grad():
        for value, twice in zip(model.parameters(), expected.parameters()):
            value.mul_(3)
            twice.mul_(2)
    averaged.update_parameters(model)
    assert_close(averaged(*model.inputs()), expected(*model.inputs()))
    return YES


def copy_deeply(name: str) -> str:
    """Compare a copy with the model after the model has changed."""
    model = Model(name)
    copied = copy.deepcopy(model)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    assert_close(copied(*model.inputs()), Model(name)(*model.inputs()), rtol=0, atol=0)
    return YES


def pickle_whole(name: str) -> str:
    """Compare a model that was pickled as a whole."""
    model = Model(name)
    assert_close(pickle.loads(pickle.dumps(model))(*model.inputs()), model(*model.inputs()), rtol=0, atol=0)
    return YES


def load_state(name: str) -> str:
    """Compare a model that has loaded the state dict of another one."""
    model, other = Model(name), Model(name)
    for parameter in other.parameters():
        nn.init.zeros_(parameter)
    other.load_state_dict(model.state_dict())
    assert_close(other(*model.inputs()), model(*model.inputs()), rtol=0, atol=0)
    return YES


FEATURES: dict[str, Callable[[str], str]] = {
    'func.grad': differentiate,
    'func.vmap': vectorise,
    'func.jvp': differentiate_forward,
    'numpy integers': take_numpy_integers,
    'fx.symbolic_trace': trace,
    'eager quantisation': quantise,
    'quantize_dynamic': quantise_dynamically,
    'DDP': train_in_parallel,
    'FSDP2': shard,
    'AveragedModel': average,
    'deepcopy': copy_deeply,
    'pickle': pickle_whole,
    'state_dict': load_state,
}


def torch_features(name: str) -> dict[str, str]:
    """Try all features with an upsampler.

    Returns:
        A cell for each feature; ``-`` if this installation lacks a module that the feature needs.
    """

    def cell(feature: Callable[[str], str]) -> str:
        try:
            return feature(name)
        except ImportError:
            return UNTRIED

    return {title: attempt(partial(cell, feature)) or NO for title, feature in FEATURES.items()}


def _gradients(model: nn.Module, inputs: Optional[tuple[Tensor, ...]] = None) -> list[Tensor]:
    """Return the output of a model and the gradients of its parameters."""
    y = model(*(inputs or model.inputs()))  # type: ignore[operator]
    y.square().sum().backward()
    return [y, *(parameter.grad for parameter in model.parameters() if parameter.grad is not None)]


def _same_layers(model: Model, other: Model) -> bool:
    """Return True if the upsamplers of two models consist of layers of the same classes."""
    types = [[type(layer) for layer in each.upsampler.modules()] for each in (model, other)]
    return types[0] == types[1]


@contextmanager
def _one_process() -> Iterator[None]:
    """Start a process group of this process alone."""
    dist.init_process_group('gloo', store=dist.HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()
