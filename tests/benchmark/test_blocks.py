"""Block sizes of the kernels: which are timed, and which counts as the fastest."""

import pytest
import torch
from conftest import ROOT
from fake_clock import CPU, FakeClock

pytest.importorskip('triton')

from mmdysample.benchmark import blocks, command
from mmdysample.benchmark.blocks import MeasuredBlock, block_table, measure_blocks, verdict
from mmdysample.benchmark.timing import Timing
from mmdysample.functional.kernels import launch


def test_every_kernel_is_launched_with_every_block_size(monkeypatch):
    launched = []

    def launch_kernel(*arguments):
        *others, sizes = arguments
        forward = len(others) == 7
        deterministic = torch.are_deterministic_algorithms_enabled()
        kernel = 'sample' if forward else 'gather_gradient' if deterministic else 'sample_backward'
        assert forward or others[-2:] == [True, not deterministic]  # the gradients of the map and of the points
        (form,) = sizes[kernel]
        assert others[0].is_contiguous(memory_format=form)
        launched.append((kernel, form, sizes[kernel][form]))

    for name in ('sample_fused', 'sample_fused_backward'):
        monkeypatch.setattr(launch, name, launch_kernel)
    monkeypatch.setattr(blocks, 'CANDIDATES', {'contiguous': [(64, 8), (128, 4)], 'channels_last': [(16, 2)]})
    rows = measure_blocks(CPU, [(1, 16, 2, 3)], rounds=3, seconds=0, clock=FakeClock(), show=lambda items, label: items)
    assert {(row.kernel, blocks.FORMATS[row.format], row.block) for row in rows} == set(launched)
    assert len(set(launched)) == len(rows) == 2 + 2 + 3 + 2 + 2 + 2
    assert len(launched) == (2 + 3) * len(rows)
    assert {(row.kernel, row.block) for row in rows if row.in_use and row.format == 'contiguous'} == {
        ('sample', (128, 4)),
        ('sample_backward', (128, 2)),
        ('gather_gradient', (128, 4)),
    }
    assert all(row.time.calls == 3 for row in rows)


def measured(block, ms, size=(1, 8, 2, 3), in_use=False):
    return MeasuredBlock('sample', 'contiguous', size, 'float32', block, in_use, Timing(ms, ms, ms, 5) if ms else None, '')


def test_the_fastest_is_so_over_all_sizes():
    rows = [
        *(measured((128, 4), 2.0, in_use=True), measured((64, 8), 1.0), measured((256, 2), 1.8), measured((512, 1), 0.1)),
        *(measured((128, 4), 8.0, (2, 8, 9, 9), True), measured((64, 8), 20.0, (2, 8, 9, 9)), measured((256, 2), 7.2, (2, 8, 9, 9))),
        measured((512, 1), None, (2, 8, 9, 9)),  # it failed
    ]
    (row,) = block_table(rows)
    assert row == {'name': '`sample`', 'format': 'contiguous', 'in use': '128x4', 'fastest': '256x2', 'fastest / in use': '0.90'}
    assert verdict([row]) == 'faster than those in use: sample contiguous 256x2 (0.90 of the time of 128x4)'


@pytest.mark.parametrize(('ms', 'faster'), [(0.98, False), (0.96, True), (2.0, False)])
def test_a_small_gain_may_be_chance(ms, faster):
    table = block_table([measured((128, 4), 1.0, in_use=True), measured((64, 8), ms)])
    assert verdict(table).startswith('faster than those in use' if faster else 'no block size is clearly faster')


def test_without_any_time():
    (row,) = block_table([measured((128, 4), None, in_use=True), measured((64, 8), None)])
    assert (row['in use'], row['fastest']) == ('128x4', '')
    assert verdict([row]) == 'no block size is clearly faster than that in use'


def test_times_need_a_gpu(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(SystemExit):
        command.main(ROOT, ['blocks', '--out', str(tmp_path)])
    assert capsys.readouterr().err == 'error: blocks times the kernels on a GPU, but torch sees none\n'
    assert list(tmp_path.iterdir()) == []
