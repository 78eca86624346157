"""How time and memory are measured, and on what."""

import numpy as np
import pytest
import torch
from fake_clock import CPU, FakeClock
from torch import nn

from mmdysample.benchmark import environment, memory, timing
from mmdysample.benchmark.environment import Environment
from mmdysample.benchmark.passes import PASSES, Subject
from mmdysample.benchmark.timing import Timing, in_a_word, interleaved


class TestTiming:
    def test_each_round_calls_all_in_an_order_of_its_own(self):
        called = []
        calls = {name: lambda name=name: called.append(name) for name in 'abc'}
        times, failed = interleaved(calls, FakeClock(), rounds=20)
        rounds = [tuple(called[i : i + 3]) for i in range(0, len(called), 3)]
        assert len(rounds) == 22  # two to warm up
        assert all(sorted(order) == ['a', 'b', 'c'] for order in rounds)
        assert len(set(rounds)) == 6  # of all orders
        assert failed == {}
        # Each time is that of its own call: 1 ms more than of the one before, whichever that was.
        flat = sorted(time for values in times.values() for time in values)
        assert flat == [float(i) for i in range(7, 67)]
        assert [called[int(time) - 1] for time in times['b']] == ['b'] * 20

    def test_it_goes_on_for_as_long_as_it_should(self):
        seconds_a_round = iter([50.0] * 1000)  # ms
        times, _ = interleaved({'a': lambda: None}, lambda call: next(seconds_a_round), rounds=3, seconds=2.0)
        assert len(times['a']) == 40
        assert 1000 - len(list(seconds_a_round)) == 2 + 4 + 40  # a tenth of the time to warm up

    def test_what_fails_is_left_out_and_says_why(self):
        calls = []

        def fails():
            calls.append(1)
            if len(calls) == 3:
                raise RuntimeError('"softmax" not implemented for \'Half\'')

        times, failed = interleaved({'good': lambda: None, 'bad': fails}, FakeClock(), rounds=5)
        assert list(times) == ['good']
        assert len(times['good']) == 5
        assert failed == {'bad': "not implemented for 'Half'"}
        assert len(calls) == 3
        assert interleaved({'bad': fails, 'worse': fails}, FakeClock(), rounds=2, seconds=1)[0].keys() == {'bad', 'worse'}

    def test_nothing_is_left(self):
        def fails():
            raise MemoryError

        times, failed = interleaved({'a': fails}, FakeClock(), rounds=2, seconds=100.0)
        assert times == {}
        assert list(failed) == ['a']

    def test_median_and_quartiles(self):
        values = [5.0, 1.0, 9.0, 2.0, 7.5, 3.0]
        assert Timing.of(values) == Timing(*np.percentile(values, [25, 50, 75]), 6)
        assert Timing.of([4.0]) == Timing(4.0, 4.0, 4.0, 1)

    @pytest.mark.parametrize(
        ('error', 'word'),
        [
            (torch.cuda.OutOfMemoryError('CUDA out of memory. Tried to allocate 20.00 GiB'), 'out of memory'),
            (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), 'out of memory'),
            (ValueError('in_channels must be\ndivisible'), 'in_channels must be divisible'),
            (KeyError('x'), "KeyError: 'x'"),
            (RuntimeError('a' * 500), 'RuntimeError: ' + 'a' * 80),
        ],
    )
    def test_a_reason_fits_a_cell(self, error, word):
        assert in_a_word(error) == word


class TestMemory:
    def test_what_is_held_at_the_peak(self):
        def two_copies():
            return (x + 1) * 2  # both results are alive when the second is made

        x = torch.zeros(2**20)  # 4 MiB
        assert memory.peak_memory(two_copies) == pytest.approx(8 * 2**20, rel=0.01)

    def test_a_step_holds_output_and_gradients(self):
        """The output of a product, and the gradients of its input and of its weight, which are gone afterwards."""

        class Product(nn.Module):
            def __init__(self):
                super().__init__()
                self.weight = nn.Parameter(torch.ones(2**20))

            def forward(self, x):
                return x * self.weight

        x = torch.zeros(2**20)
        module = Product()
        subject = Subject(module, (x,), torch.ones_like(x))
        call = PASSES['forward + backward'](subject)
        assert memory.peak_memory(call) == pytest.approx(3 * 4 * 2**20, rel=0.01)
        assert module.weight.grad is None
        assert x.grad is None
        assert module.training
        PASSES['forward'](subject)
        assert not module.training


class FakeCUDA:
    """``torch.cuda`` with a GPU on which a millisecond passes by each thing that is asked of it."""

    def __init__(self, monkeypatch):
        self.log = []
        self.held, self.peak = 1000, 0
        cuda = self

        class Event:
            def __init__(self, enable_timing):
                assert enable_timing

            def record(self):
                cuda.log.append('record')
                self.at = len(cuda.log)

            def synchronize(self):
                cuda.log.append('wait')

            def elapsed_time(self, end):
                assert cuda.log[-1] == 'wait'
                return float(end.at - self.at)

        class Flushed:
            def zero_(self):
                cuda.log.append('flush')

        monkeypatch.setattr(torch.cuda, 'Event', Event)
        monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
        monkeypatch.setattr(torch.cuda, 'get_device_name', lambda: 'NVIDIA GeForce RTX 3090')
        monkeypatch.setattr(torch.cuda, 'synchronize', lambda: self.log.append('synchronize'))
        monkeypatch.setattr(torch.cuda, 'reset_peak_memory_stats', self.reset)
        monkeypatch.setattr(torch.cuda, 'memory_allocated', lambda: self.held)
        monkeypatch.setattr(torch.cuda, 'max_memory_allocated', lambda: self.peak)
        self.flushed = Flushed()

    def reset(self):
        self.log.append('reset')
        self.peak = self.held

    def call(self):
        self.log.append('call')
        self.peak = max(self.peak, self.held + 300)


class TestCUDA:
    def test_events_around_the_call_alone(self, monkeypatch):
        cuda = FakeCUDA(monkeypatch)
        with monkeypatch.context() as patch:
            patch.setattr(torch, 'empty', lambda size, dtype, device: cuda.flushed)
            clock = timing.make_clock('cuda')
        assert clock(cuda.call) == 2.0
        assert cuda.log == ['flush', 'record', 'call', 'record', 'wait']

    def test_memory_beyond_what_was_held(self, monkeypatch):
        cuda = FakeCUDA(monkeypatch)
        cuda.peak = 10**9  # of earlier work
        assert memory.peak_memory(cuda.call, 'cuda') == 300
        assert cuda.log == ['call', 'synchronize', 'reset', 'call', 'synchronize']

    def test_the_name_of_the_files(self, monkeypatch):
        FakeCUDA(monkeypatch)
        monkeypatch.setattr(torch, '__version__', '2.13.0+cu130')
        name = Environment.here('cuda', 'float32', tf32=True).file_name
        assert name == 'nvidia-geforce-rtx-3090_torch2.13.0_cuda_float32_tf32'
        assert Environment.here('cuda', 'bfloat16', compiled=True).file_name.endswith('_cuda_bfloat16_compile')


class TestEnvironment:
    @pytest.mark.parametrize(
        ('machine', 'name'),
        [
            ('Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz', 'intel-xeon-platinum-8375c-2.90ghz'),
            ('AMD Ryzen 7 5800H with Radeon Graphics', 'amd-ryzen-7-5800h'),
            ('../../x', 'x'),
            ('', 'unknown'),
        ],
    )
    def test_a_machine_is_named_by_its_model(self, monkeypatch, machine, name):
        monkeypatch.setattr(environment, 'cpu_model', lambda: machine)
        assert Environment.here().file_name.split('_torch')[0] == name

    def test_tf32_is_what_was_asked_for_and_then_what_it_was(self):
        before = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
        with CPU.applied():
            assert (torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()) == (False, 'highest')
        assert (torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()) == before
