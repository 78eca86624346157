"""Fixtures of the tests of the reproduction command, which start, count and measure nothing."""

import pytest
import torch
from conftest import ROOT

from mmdysample.benchmark.timing import Timing
from mmdysample.benchmark.upsamplers import Cost, Measured
from mmdysample.reproduction import command, complexity, report


@pytest.fixture
def _frameworks():
    pytest.importorskip('mmdet')
    pytest.importorskip('mmseg')


@pytest.fixture
def _no_counting(monkeypatch):
    """To count takes seconds a row; test_model_flops.py does."""
    monkeypatch.setattr(report, 'count_model', lambda config, upsampler: 1000 + len(upsampler))
    monkeypatch.setattr(report, 'count_upsamplers', lambda config, upsampler, *size: 2 * 10**9)
    monkeypatch.setattr(report, 'count_rest', lambda config, *size: 10**10)


@pytest.fixture
def _no_settings(monkeypatch):
    for name in ('OMP_NUM_THREADS', 'CUDA_VISIBLE_DEVICES', 'SLURM_JOB_ID', 'COLUMNS'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 8)


@pytest.fixture
def _no_measuring(monkeypatch):
    """To measure takes minutes; test_complexity.py and test_benchmark.py are about that."""
    costs = {'forward': Cost(Timing(1.0, 1.0, 1.0, 9), 2**20)}
    monkeypatch.setattr(complexity, 'measure_upsamplers', lambda names, **_: [Measured(name, 1, 1, costs) for name in names])


@pytest.fixture
def _data_is_there(monkeypatch):
    monkeypatch.setattr(command, 'prepare_data', lambda config, splits: None)


@pytest.fixture
def call(tmp_path, capsys):
    def run(stub, *arguments):
        try:
            kept = ['--results', str(tmp_path / 'kept')] if arguments[0].startswith(('nuclei', 'all')) else []
            code = command.main(ROOT, stub, [*arguments, '--out', str(tmp_path / 'out'), *kept])
        except SystemExit as exit_:
            code = exit_.code
        return code, *capsys.readouterr()

    return run
