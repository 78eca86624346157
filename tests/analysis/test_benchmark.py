import pytest
import torch
from mmdysample.analysis.speed import PASSES, VARIANTS, Textbook, call_times, compare, peak_memory
from torch import nn


@pytest.mark.parametrize('scale_factor', [2, 3])
@pytest.mark.parametrize('name', VARIANTS)
def test_the_textbook_formulation_is_the_same_formula(name, scale_factor):
    module = VARIANTS[name](72, scale_factor).double()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    x = torch.randn(2, 72, 3, 5, dtype=torch.float64)
    torch.testing.assert_close(Textbook(module)(x), module(x))


def test_memory_counts_what_is_held_at_the_peak():
    class TwoCopies(nn.Module):
        def forward(self, x):
            return (x + 1) * 2  # both results are alive when the second is made

    x = torch.zeros(2**20)  # 4 MiB
    assert peak_memory(PASSES['forward'], TwoCopies(), (x,)) == pytest.approx(8, rel=0.01)


def test_every_module_is_called_as_often():
    calls = []

    class Call(nn.Module):
        def __init__(self, name):
            super().__init__()
            self.name = name

        def forward(self, x):
            calls.append(self.name)
            return x

    times = call_times(
        PASSES['forward'], {'a': Call('a'), 'b': Call('b')}, dict.fromkeys('ab', (torch.zeros(1),)), rounds=7, seconds=0, label=''
    )
    assert [len(values) for values in times.values()] == [7, 7]
    assert calls.count('a') == calls.count('b') == 9


def test_the_table_has_a_row_for_each_size_and_pass():
    table = compare('DySample-S+', 2, [(1, 32, 3, 5), (2, 32, 4, 4)], rounds=3, seconds=0)
    assert table.row_count == 4
