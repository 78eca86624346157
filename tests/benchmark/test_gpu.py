"""The steps of the day when a GPU is at hand: which commands they run, what they read from them, and what becomes of a failure."""

import csv
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from fake_clock import CPU

from mmdysample.benchmark import command, gpu
from mmdysample.benchmark.environment import Environment

UPSAMPLERS = 'name,forward_backward_memory_bytes,error\nbilinear,100,\nDySample,125,{error}\n'
CAPABILITIES = 'name,guided,CPU,CUDA\nbilinear,no,{cpu},{cuda}\nFADE,yes,{cpu},fp64 fp32 fp16 bf16\n'
FOUR = 'fp64 fp32 fp16 bf16'
LOSSES = 'Epoch(train) [1][16/64]  loss: {}  loss_cls: 0.1\nEpoch(train) [1][32/64]  loss: {}  loss_cls: nan\n'
PRINTED = {
    'kernel sweep': '....\n4 passed in 0.10s\n',
    'capabilities': CAPABILITIES.format(cpu=FOUR, cuda=FOUR),
    'AMP training': LOSSES.format('2.50', '1.25'),
    'peak memory': '',
    'textbook table': '| a |   1.1 (fused) |    met |\n| b | 1.4 (fused) | missed |\n| c | 1.4 (fused) | met |\n',
    'block sizes': 'written: blocks.csv\nno block size is clearly faster than that in use\n',
}
TABLES = {
    'peak memory': UPSAMPLERS.format(error=''),
    'textbook table': 'name,error\nplain,\nfused,\n',
    'block sizes': 'name,in_use,error\nsample,True,\nsample,False,out of resources\n',
}


@pytest.fixture
def commands(monkeypatch):
    """The commands that the steps run, with ``PRINTED`` and ``TABLES`` as their results."""
    called = {}

    def python(run, *arguments):
        called[run.step] = arguments
        if run.step in TABLES:
            Path(arguments[arguments.index('--out') + 1], f'{run.step}.csv').write_text(TABLES[run.step])
        return PRINTED[run.step]

    monkeypatch.setattr(gpu.Run, 'python', python)
    return called


@pytest.fixture
def has_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.delenv('TRITON_INTERPRET', raising=False)
    monkeypatch.setattr(gpu, 'WHY_NO_TRITON', '')
    monkeypatch.setattr(Environment, 'here', lambda device: replace(CPU, machine='NVIDIA H100 PCIe', device=device))


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)


@pytest.mark.usefixtures('no_gpu')
class TestWithoutGPU:
    def test_each_step_has_a_line(self, capsys, commands, tmp_path):
        assert command.main(ROOT, ['gpu', '--out', str(tmp_path)]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[:6] == [
            'kernel sweep: passed: 4 passed in 0.10s, in the interpreter of Triton',
            f'capabilities: passed: 2 upsamplers on CPU, each in {FOUR}',
            'AMP training: skipped: trained without AMP, loss 2.50 1.25 (no CUDA device)',
            'peak memory: skipped: 2 upsamplers run, on a tiny map (no CUDA device)',
            'textbook table: skipped: all formulations but the kernels run, on a tiny map (no CUDA device)',
            'block sizes: skipped: a time in the interpreter of Triton means nothing (no CUDA device)',
        ]
        assert [line.split('|')[2].strip() for line in lines[9:15]] == ['passed'] * 2 + ['skipped'] * 4
        assert lines[-1] == 'no CUDA device: all figures of a GPU are open; run this again where torch sees one'
        assert list(tmp_path.iterdir()) == []
        assert 'block sizes' not in commands
        assert not any({'--amp', 'cuda'} & {*arguments} for arguments in commands.values())

    @pytest.mark.usefixtures('commands')
    def test_a_step_that_fails_does_not_stop_the_others(self, capsys, monkeypatch, tmp_path):
        def fails(run):
            raise OSError('no space\nleft')

        monkeypatch.setitem(gpu.STEPS, 'capabilities', fails)
        assert command.main(ROOT, ['gpu', '--out', str(tmp_path)]) == 1
        lines = capsys.readouterr().out.splitlines()
        assert lines[1] == 'capabilities: failed: no space left'
        assert [line.split(': ')[1] for line in lines[:6]] == ['passed', 'failed', *['skipped'] * 4]

    @pytest.mark.usefixtures('commands')
    def test_without_triton_there_is_no_sweep(self, monkeypatch):
        monkeypatch.setattr(gpu, 'find_spec', lambda name: None)
        outcome = gpu.take(gpu.Run('kernel sweep', False, ROOT, ROOT))
        assert (outcome.result, outcome.detail) == ('skipped', 'Triton is not installed (no CUDA device)')


@pytest.mark.usefixtures('has_gpu')
class TestWithGPU:
    def test_everything_is_measured_and_written(self, capsys, commands, tmp_path):
        assert command.main(ROOT, ['gpu', '--out', str(tmp_path)]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[:6] == [
            'kernel sweep: passed: 4 passed in 0.10s, compiled for the GPU',
            f'capabilities: passed: 2 upsamplers on CUDA, each in {FOUR}',
            'AMP training: passed: loss 2.50 1.25',
            'peak memory: passed: DySample trains in 1.25 times the memory of bilinear',
            'textbook table: passed: targets: 2 met, 1 missed',
            'block sizes: passed: no block size is clearly faster than that in use',
        ]
        path = tmp_path / 'gpu_nvidia-h100-pcie_torch2.13.0.csv'
        assert str(path) in lines[-1]
        rows = list(csv.DictReader(path.open(newline='')))
        assert [(row['step'], row['result']) for row in rows] == [(step, 'passed') for step in gpu.STEPS]
        assert rows[2]['detail'] == 'loss 2.50 1.25'
        assert '--amp' in commands['AMP training']
        assert all('cuda' in commands[step] for step in ('peak memory', 'textbook table'))
        command.main(ROOT, ['gpu', '--out', str(tmp_path)])
        assert (tmp_path / f'{path.stem}_2.csv').exists()

    @pytest.mark.parametrize(
        ('step', 'printed', 'table', 'reason'),
        [
            ('capabilities', CAPABILITIES.format(cpu=FOUR, cuda='fp32'), '', f'not in all of {FOUR} on CUDA: bilinear (fp32)'),
            ('capabilities', 'nothing', '', 'the command printed no table'),
            ('AMP training', LOSSES.format('2.5', 'nan'), '', 'the loss does not decrease: loss 2.50 nan'),
            ('AMP training', LOSSES.format('2.5', '2.5'), '', 'the loss does not decrease: loss 2.50 2.50'),
            ('AMP training', 'nothing', '', 'the loss does not decrease: loss '),
            ('peak memory', '', UPSAMPLERS.format(error='out of memory'), 'DySample: out of memory'),
            ('textbook table', '', 'name,error\nfused,other numbers\nfused,other numbers\n', 'fused: other numbers'),
            ('block sizes', '', 'name,in_use,error\nsample,True,out of resources\n', 'sample: out of resources'),
        ],
    )
    @pytest.mark.usefixtures('commands')
    def test_failures(self, monkeypatch, tmp_path, step, printed, table, reason):
        monkeypatch.setitem(PRINTED, step, printed)
        monkeypatch.setitem(TABLES, step, table) if table else None
        outcome = gpu.take(gpu.Run(step, True, ROOT, tmp_path))
        assert (outcome.result, outcome.detail) == ('failed', reason.strip())

    def test_kernels_that_cannot_be_compiled_fail(self, monkeypatch):
        monkeypatch.setattr(gpu, 'WHY_NO_TRITON', 'Triton needs a C compiler')
        assert gpu.take(gpu.Run('kernel sweep', True, ROOT, ROOT)).detail == 'Triton needs a C compiler'

    def test_the_interpreter_is_refused(self, capsys, monkeypatch, tmp_path):
        monkeypatch.setenv('TRITON_INTERPRET', '1')
        with pytest.raises(SystemExit):
            command.main(ROOT, ['gpu', '--out', str(tmp_path)])
        assert capsys.readouterr().err == 'error: TRITON_INTERPRET=1 keeps the kernels off the GPU: unset it\n'


class TestProcesses:
    def run(self, tmp_path, code):
        return gpu.Run('a step', False, tmp_path, tmp_path).python('-S', '-c', code)

    def test_what_it_prints_is_kept(self, tmp_path):
        assert self.run(tmp_path, 'print(1); print(2)') == (tmp_path / 'work_dirs/gpu/a_step.log').read_text() == '1\n2\n'

    @pytest.mark.parametrize(
        ('code', 'reason'),
        [
            ('print("error: no data"); print("bye"); raise SystemExit(2)', r'error: no data \(log: .*a_step\.log\)'),
            (
                'raise RuntimeError("CUDA error: illegal access\\nCompile with TORCH_USE_CUDA_DSA")',
                'RuntimeError: CUDA error: illegal access ',
            ),
            ('print("1 failed, 3 passed in 1.0s"); raise SystemExit(1)', '1 failed, 3 passed in 1.0s '),
            (f'import os; os.kill(os.getpid(), {signal.SIGSEGV:d})', 'killed by signal 11 '),
        ],
    )
    def test_why_it_failed(self, tmp_path, code, reason):
        with pytest.raises(RuntimeError, match=f'^{reason}'):
            self.run(tmp_path, code)
