import csv
import io

import pytest
import torch
from conftest import ROOT
from torch import nn

from mmdysample.benchmark import command, files, report
from mmdysample.benchmark.environment import Environment
from mmdysample.benchmark.floor import bytes_to_move, copying, floor_time
from mmdysample.benchmark.formulations import MeasuredFormulation, formulations, measure_formulations, why_not_timed
from mmdysample.benchmark.passes import PASSES
from mmdysample.benchmark.targets import TARGETS, judge
from mmdysample.benchmark.textbook import VARIANTS, Textbook
from mmdysample.benchmark.timing import Timing

NAMES = ['bilinear', 'textbook', 'textbook, compiled', 'plain', 'lean', 'fused', 'floor']
SMALL = (2, 32, 4, 3)


@pytest.fixture
def compiled(monkeypatch):
    """What would have been compiled, with which options."""
    seen = []
    monkeypatch.setattr(nn.Module, 'compile', lambda self, **options: seen.append((type(self), options)))
    return seen


def four_milliseconds(call):
    call()
    return 4.0


def measure(name='DySample', sizes=(SMALL,), dtype='float32', clock=four_milliseconds, **options):
    show = lambda items, label: items  # noqa: E731
    environment = Environment.here(dtype=dtype)
    return measure_formulations(name, sizes, environment=environment, rounds=3, seconds=0, clock=clock, show=show, **options)


class TestTextbook:
    @pytest.mark.parametrize('scale_factor', [2, 3])
    @pytest.mark.parametrize('name', VARIANTS)
    def test_it_is_the_same_formula(self, name, scale_factor):
        module = VARIANTS[name](72, scale_factor).double()
        for parameter in module.parameters():
            nn.init.normal_(parameter, std=0.3)
        x = torch.randn(2, 72, 3, 5, dtype=torch.float64)
        torch.testing.assert_close(Textbook(module)(x), module(x))

    def test_coordinates_of_a_narrow_map_are_in_float32(self):
        """In bfloat16 the pixels from 128 on have no centres: it has 8 bits."""
        module = VARIANTS['DySample'](4, groups=1).bfloat16()
        nn.init.zeros_(module.offset.weight)
        x = (torch.arange(300) % 2).expand(1, 4, 1, 300).bfloat16()
        torch.testing.assert_close(Textbook(module)(x), nn.functional.interpolate(x, scale_factor=2, mode='bilinear'))


class TestFloor:
    @pytest.mark.parametrize(
        ('size', 'scale_factor', 'itemsize', 'forward', 'both'),
        [
            # 30 numbers of 4 bytes are read and 120 written: 120 + 480. Then 120 and 30 are read, and 30 written: 480 + 120 + 120.
            ((1, 2, 3, 5), 2, 4, 600, 1320),
            # 2 bytes, nine times as many: 60 + 540, and 540 + 60 + 60.
            ((1, 2, 3, 5), 3, 2, 600, 1260),
        ],
    )
    def test_bytes_counted_by_hand(self, size, scale_factor, itemsize, forward, both):
        assert bytes_to_move(size, scale_factor, itemsize) == {'forward': forward, 'forward + backward': both}
        assert bytes_to_move(size, scale_factor, itemsize).keys() == PASSES.keys()

    def test_at_the_pace_of_a_copy(self):
        """A copy of 100 bytes moves 200, here in 2 ms: 300 take 3 ms."""
        assert floor_time(Timing(1.0, 2.0, 4.0, 7), copied=100, moved=300) == Timing(1.5, 3.0, 6.0, 7)

    def test_a_copy_allocates_nothing(self):
        source, target = torch.arange(3.0), torch.zeros(3)
        where = target.data_ptr()
        copying(source, target)()
        assert target.tolist() == [0, 1, 2]
        assert target.data_ptr() == where


@pytest.mark.usefixtures('compiled')
class TestMeasurements:
    def test_a_row_for_each_formulation(self, monkeypatch, compiled):
        monkeypatch.setenv('TRITON_INTERPRET', '1')  # where Triton is installed, the kernels could be had, but not be timed
        monkeypatch.delenv('MMDYSAMPLE_PATH', raising=False)
        rows = measure(sizes=[SMALL, (1, 64, 3, 3)])
        assert [row.name for row in rows] == NAMES * 4
        assert [(row.size[1], row.label) for row in rows[::7]] == [(channels, label) for channels in (32, 64) for label in PASSES]
        assert compiled == [(Textbook, {'fullgraph': True, 'dynamic': False})] * 4
        assert {row.error for row in rows if row.name == 'fused'} == {'not on CPU'}
        assert [row.name for row in rows if row.time is None] == ['fused'] * 4
        assert {row.error for row in rows if row.name != 'fused'} == {''}
        assert [row.name for row in rows if row.default] == ['plain', 'lean'] * 2
        output = 2 * 32 * 8 * 6 * 4
        assert min(row.memory for row in rows[:5]) >= output
        assert [row.memory for row in rows if row.name in ('fused', 'floor')] == [None] * 8
        # All calls take 4 ms, that of the copy, which moves the output twice, too.
        assert rows[6].time == Timing(*[4 * (output + output / 4) / (2 * output)] * 3, 3)
        assert rows[13].time.median == 4 * (2 * output + 3 * output / 4) / (2 * output)

    @pytest.mark.parametrize('dtype', ['float32', 'float16', 'bfloat16'])
    @pytest.mark.parametrize('name', VARIANTS)
    def test_all_compute_the_same_in_any_dtype(self, name, dtype):
        rows = measure(name, [(1, 64, 9, 7)], dtype, scale_factor=2)
        assert {row.dtype for row in rows} == {dtype}
        assert [row.error for row in rows if row.name != 'fused'] == [''] * 12

    def test_the_interpreter_is_never_timed(self, monkeypatch):
        monkeypatch.setenv('TRITON_INTERPRET', '1')
        assert (why_not_timed('cpu'), why_not_timed('cuda')) == ('not on CPU', "in Triton's interpreter")
        monkeypatch.delenv('TRITON_INTERPRET')
        assert (why_not_timed('cpu'), why_not_timed('cuda')) == ('not on CPU', '')

    def test_each_path_is_that_path_with_the_same_weights(self):
        module = VARIANTS['DySample+'](32)
        modules = formulations(module)
        assert {name: modules[name].path for name in ('plain', 'lean', 'fused')} == {'plain': 'plain', 'lean': 'lean', 'fused': 'fused'}
        for taken in (*list(modules.values())[3:], modules['textbook'].module, modules['textbook, compiled'].module):
            assert taken is not module  # whose gradients are its own
            assert all(map(torch.equal, taken.state_dict().values(), module.state_dict().values()))
        assert module.path is None

    def test_what_computes_something_else_is_not_timed(self, monkeypatch):
        forward = Textbook.forward

        def wrong_in_the_second_image(self, x):
            out = forward(self, x).clone()
            out[1, :, -1] += 0.5
            return out

        monkeypatch.setattr(Textbook, 'forward', wrong_in_the_second_image)
        for dtype in ('float32', 'bfloat16'):
            failed = [row for row in measure(dtype=dtype) if row.name.startswith('textbook')]
            assert [(row.error, row.time, row.memory) for row in failed] == [('other numbers than plain', None, None)] * 4

    def test_what_fails_in_one_pass_says_why(self, monkeypatch):
        forward = Textbook.forward

        def no_gradient(self, x):
            if torch.is_grad_enabled():
                raise torch.cuda.OutOfMemoryError('CUDA out of memory.')
            return forward(self, x)

        monkeypatch.setattr(Textbook, 'forward', no_gradient)
        rows = measure()
        assert [row.error for row in rows if row.name == 'textbook'] == ['', 'out of memory']
        assert [row.time is None for row in rows if row.name == 'textbook'] == [False, True]
        assert [row.error for row in rows if row.name in ('bilinear', 'lean', 'floor')] == [''] * 6

    def test_what_cannot_be_compiled_says_why(self, monkeypatch):
        called = []

        def fails(*_):
            called.append(True)
            raise RuntimeError('no compiler')

        monkeypatch.setattr(nn.Module, 'compile', lambda self, **_: setattr(self, '_compiled_call_impl', fails))
        rows = measure()
        assert [(row.name, row.error) for row in rows if row.error and row.name != 'fused'] == [
            ('textbook, compiled', 'RuntimeError: no compiler')
        ] * 2
        assert len(called) == 2  # to try again would take as long

    def test_a_size_that_does_not_fit_is_found_before_anything_is_timed(self):
        with pytest.raises(ValueError, match='in_channels must be divisible by groups'):
            measure(sizes=[SMALL, (1, 30, 4, 4)], clock=lambda _: pytest.fail('timed'))


@pytest.mark.slow
def test_the_textbook_formulation_compiles():
    torch._dynamo.utils.counters.clear()
    rows = [row for row in measure(sizes=[(1, 8, 3, 4)]) if row.name == 'textbook, compiled']
    assert [(row.error, row.time.calls) for row in rows] == [('', 3)] * 2
    assert torch._dynamo.utils.counters['stats']['unique_graphs'] == 2


def made_up(label='forward', size=(1, 256, 120, 120), dtype='float32', default='plain', **ms):
    """Rows of these times, the squares of which are MiB."""
    return [
        MeasuredFormulation(size, dtype, label, name, Timing(0.9 * t, t, 1.1 * t, 5), int(t * t * 2**20), name == default)
        for name, t in ms.items()
    ]


class TestTargets:
    @pytest.mark.parametrize(
        ('rows', 'ratios', 'met'),
        [
            (
                made_up(bilinear=20, plain=23) + made_up('forward + backward', bilinear=10, lean=14, default='lean'),
                [1.15, 1.4],
                [True, False],
            ),
            (made_up(bilinear=20, plain=23.5, lean=2), [1.175, None], [False, None]),
            (made_up(bilinear=20, plain=20, default='fused'), [None, None], [None, None]),
            (made_up(plain=20), [None, None], [None, None]),
            (made_up(bilinear=2, plain=1, dtype='bfloat16') + made_up(bilinear=2, plain=1, size=SMALL), [None, None], [None, None]),
            ([], [None, None], [None, None]),
        ],
        ids=['both', 'forward alone', 'no default', 'no bilinear', 'elsewhere', 'nothing'],
    )
    def test_on_cpu(self, rows, ratios, met):
        verdicts = judge(rows, 'cpu')
        assert [verdict.ratio for verdict in verdicts] == pytest.approx(ratios)
        assert [verdict.met for verdict in verdicts] == met

    def test_on_cuda(self):
        rows = made_up(bilinear=4, textbook=15.5, fused=5, default='fused')
        rows += made_up('forward + backward', bilinear=8, textbook=18, fused=10, default='fused')
        verdicts = judge(rows, 'cuda')
        assert [verdict.ratio for verdict in verdicts] == [1.25, 3.1, 1.8, 1.25**2]
        assert [verdict.met for verdict in verdicts] == [True, True, False, False]

    def test_what_failed_has_not_missed_it(self):
        failed = MeasuredFormulation((1, 256, 120, 120), 'float32', 'forward', 'plain', default=True, error='out of memory')
        assert judge([*made_up(bilinear=4), failed], 'cpu')[0].met is None

    def test_they_name_the_passes(self):
        assert {target.label for target in TARGETS} == PASSES.keys()
        assert {target.device for target in TARGETS} == {'cpu', 'cuda'}

    def test_the_table(self):
        rows = made_up(bilinear=2, textbook=9, fused=2.602, default='fused')
        assert [tuple(row.values()) for row in report.target_table(judge(rows, 'cuda'))] == [
            ('forward: at most 1.3x bilinear', '1.301 (fused)', 'missed'),
            ('forward: at least 3x faster than textbook', '3.459 (fused)', 'met'),
            ('forward + backward: at least 2x faster than textbook', '', 'not measured'),
            ('forward + backward, peak memory: at most 1.2x bilinear', '', 'not measured'),
        ]


class TestTable:
    def test_each_is_compared_within_its_size_dtype_and_pass(self):
        failed = MeasuredFormulation(SMALL, 'float32', 'forward', 'fused', error='not on CPU')
        rows = [*made_up(size=SMALL, bilinear=4, plain=6, floor=2), failed, *made_up('forward + backward', size=SMALL, bilinear=1, plain=3)]
        cells = report.formulation_table(rows)
        assert [row['/ bilinear'] for row in cells] == ['1.00', '1.50', '0.50', '', '1.00', '3.00']
        assert [row['/ floor'] for row in cells] == ['2.00', '3.00', '1.00', '', '', '']
        assert cells[1] == {
            'size': '2x32x4x3', 'dtype': 'float32', 'pass': 'fwd', 'name': '`plain`', 'default': '*', 'ms (quartiles)': '6.00 (5.40-6.60)',
            '/ bilinear': '1.50', '/ floor': '3.00', 'MiB': '36.0', 'MiB / bilinear': '2.25', 'failed': '',
        }  # fmt: skip
        assert (cells[3]['ms (quartiles)'], cells[3]['MiB'], cells[3]['failed']) == ('', '', 'not on CPU')

    def test_the_csv_holds_all_that_was_measured(self):
        (row, failed) = [*made_up(plain=1.5), MeasuredFormulation(SMALL, 'float32', 'forward', 'fused', error='not on CPU')]
        text = files.to_csv([files.formulation_columns(r) for r in (row, failed)], Environment.here())
        first, second = csv.DictReader(io.StringIO(text))
        assert (first['size'], first['pass'], first['name'], first['dtype']) == ('1x256x120x120', 'forward', 'plain', 'float32')
        assert (first['ms_median'], first['calls'], first['memory_bytes'], first['default']) == ('1.5', '5', str(9 * 2**18), 'True')
        assert (second['ms_median'], second['memory_bytes'], second['error']) == ('', '', 'not on CPU')


@pytest.mark.usefixtures('compiled')
class TestCommand:
    ARGUMENTS = ('textbook', '--size', '1x32x4x5', '--size', '2x8x3x3', '--rounds', '1', '--seconds', '0')

    def test_a_table_the_targets_and_a_csv_for_each_dtype(self, capfd, tmp_path):
        assert command.main(ROOT, [*self.ARGUMENTS, '--out', str(tmp_path)]) == 0
        printed = capfd.readouterr().out
        paths = sorted(tmp_path.iterdir())
        assert [path.stem.split('_cpu_')[1] for path in paths] == [f'{dtype}_1x32x4x5_2x8x3x3' for dtype in ('bfloat16', 'float32')]
        assert all(path.stem.startswith('textbook_') for path in paths)
        assert f'written: {paths[1]} and {paths[0]}' in printed
        assert 'float32 and bfloat16' in printed
        assert 'targets at 1x256x120x120, float32:' in printed
        assert printed.count('not measured') == 2
        for path, dtype in zip(paths, ('bfloat16', 'float32')):
            rows = list(csv.DictReader(path.open(newline='')))
            assert [row['name'] for row in rows] == NAMES * 4
            assert {(row['dtype'], row['type'], row['scale_factor']) for row in rows} == {(dtype, 'DySample', '2')}

    def test_for_a_program_there_is_the_table_alone(self, capfd, tmp_path):
        assert command.main(ROOT, [*self.ARGUMENTS, '--out', str(tmp_path), '--format', 'csv', '--dtype', 'float32']) == 0
        rows = list(csv.DictReader(io.StringIO(capfd.readouterr().out)))
        assert [row['name'] for row in rows] == NAMES * 4
        assert len(list(tmp_path.iterdir())) == 1

    def test_the_targets_are_those_of_dysample_at_x2(self, capfd, tmp_path):
        arguments = ['textbook', '--size', '1x64x3x3', '--rounds', '1', '--seconds', '0', '--dtype', 'float32', '--out', str(tmp_path)]
        assert command.main(ROOT, [*arguments, '--type', 'DySample-S+', '--scale-factor', '4']) == 0
        printed = capfd.readouterr().out
        assert printed.startswith('DySample-S+ x4; ')
        assert 'targets at' not in printed
        (path,) = tmp_path.iterdir()
        assert path.stem.endswith('_cpu_float32_dysample-s-plus_x4_1x64x3x3')

    def test_the_default_sizes(self, monkeypatch, tmp_path):
        seen = []

        def spy(*arguments):
            seen.append(arguments)
            return made_up(bilinear=1, plain=1)

        monkeypatch.setattr(command, 'measure_formulations', spy)
        assert command.main(ROOT, ['textbook', '--out', str(tmp_path)]) == 0
        assert [(a[0], a[1], a[2], a[3].dtype) for a in seen] == [
            ('DySample', ((1, 256, 120, 120), (4, 256, 200, 304), (16, 64, 32, 32)), 2, dtype) for dtype in ('float32', 'bfloat16')
        ]
        assert sorted(path.stem.split('_cpu_')[1] for path in tmp_path.iterdir()) == ['bfloat16', 'float32']
