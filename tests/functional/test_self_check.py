"""The check of the kernels before their first use, with stand-ins that fail in each way that a machine can."""

import warnings

import pytest
import torch

from mmdysample.functional import choose_path, paths, self_check

pytest.importorskip('triton')

from mmdysample.functional.kernels import launch

DEVICE = torch.device('cuda', 0) if torch.cuda.is_available() else torch.device('cpu')


@pytest.fixture(autouse=True)
def _nothing_is_remembered(monkeypatch):
    monkeypatch.setattr(self_check, '_results', {})
    monkeypatch.setattr(torch.cuda, 'is_current_stream_capturing', lambda: False)


def broken(monkeypatch, name, change):
    """Let a launch of kernels return something else."""
    stock = getattr(launch, name)
    monkeypatch.setattr(launch, name, lambda *arguments: change(stock(*arguments)))


def raising(error):
    def change(*_):
        raise error

    return change


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
def test_kernels_that_work_pass(dtype):
    with warnings.catch_warnings():
        warnings.simplefilter('error', UserWarning)  # the interpreter of Triton 3.2 causes deprecation warnings of NumPy
        assert self_check.why_broken(DEVICE, dtype) == ''


@pytest.mark.parametrize(
    ('name', 'change', 'reason'),
    [
        ('sample_fused', raising(OSError('/usr/bin/ld: cannot find -lcuda')), 'OSError: /usr/bin/ld: cannot find -lcuda'),
        ('sample_fused', raising(PermissionError('Read-only cache')), 'PermissionError: Read-only cache'),
        ('sample_fused', raising(RuntimeError('ptxas fatal\nValue sm_120 is not defined')), 'RuntimeError: Value sm_120 is not defined'),
        ('sample_fused', lambda y: y + 0.1, 'the output differs by '),
        ('sample_fused', lambda y: y * float('nan'), 'the output differs by nan'),
        ('sample_fused_backward', lambda g: (g[0], 1.1 * g[1], g[2]), 'the gradient of the offset differs by 1e-01'),
        ('sample_fused_backward', lambda g: (g[0], g[1], torch.zeros_like(g[2])), 'the gradient of the scope differs by 1e+00'),
    ],
)
def test_kernels_that_fail_are_named_once(monkeypatch, name, change, reason):
    broken(monkeypatch, name, change)
    with pytest.warns(UserWarning, match=f'samples by PyTorch operations on {DEVICE}, because the kernels failed: ') as caught:
        assert self_check.why_broken(DEVICE, torch.float32).startswith(reason)
    assert [warning.category for warning in caught].count(UserWarning) == 1
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert self_check.why_broken(DEVICE, torch.float32).startswith(reason)


def test_a_device_whose_kernels_fail_goes_by_pytorch_and_refuses_to_be_forced(monkeypatch):
    class Map:
        device, dtype, is_cuda, shape = torch.device('cuda', 0), torch.float32, True, (1, 4, 3, 5)

    monkeypatch.setattr(paths, 'why_no_kernels', lambda device, dtype: '')
    monkeypatch.setattr(paths, 'FORCED', None)
    monkeypatch.setattr(self_check, 'check', lambda device, dtype: 'the output differs by 1e-01 of the largest value')
    with pytest.warns(UserWarning, match='on cuda:0'):
        assert choose_path(Map()) == 'lean'
    with pytest.raises(ValueError, match="is 'fused'.*the output differs by 1e-01"):
        choose_path(Map(), path='fused')


def test_deterministic_algorithms_have_kernels_of_their_own_to_check(monkeypatch):
    checked = []
    monkeypatch.setattr(self_check, 'check', lambda *_: checked.append(torch.are_deterministic_algorithms_enabled()) or '')
    for deterministic in (False, True, False, True):
        torch.use_deterministic_algorithms(deterministic)
        try:
            self_check.why_broken(DEVICE, torch.float32)
        finally:
            torch.use_deterministic_algorithms(False)
    assert checked == [False, True]


def test_while_a_graph_is_captured_only_a_remembered_result_counts(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_current_stream_capturing', lambda: True)
    monkeypatch.setattr(self_check, 'check', lambda *_: pytest.fail('checked'))
    assert self_check.why_broken(DEVICE, torch.float32) == ''
    self_check._results[DEVICE, torch.float32, False] = 'broken'
    assert self_check.why_broken(DEVICE, torch.float32) == 'broken'


def test_the_check_passes_in_every_context_of_the_first_call():
    """Deterministic algorithms, another default device and default dtype: only the kernels may fail it."""
    torch.use_deterministic_algorithms(True)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device('meta'):
            assert self_check.check(DEVICE, torch.float32) == ''
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_default_dtype(torch.float32)


def test_an_interrupted_check_is_made_again(monkeypatch):
    stock = self_check.check
    monkeypatch.setattr(self_check, 'check', raising(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        self_check.why_broken(DEVICE, torch.float32)
    monkeypatch.setattr(self_check, 'check', stock)
    broken(monkeypatch, 'sample_fused', lambda y: y + 1)
    with pytest.warns(UserWarning, match='the kernels failed'):
        assert self_check.why_broken(DEVICE, torch.float32)
