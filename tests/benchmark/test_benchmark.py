"""What is measured of upsamplers and of models, and where it is written."""

import csv
import io
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from fake_clock import CPU, FakeClock
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from mmdysample import build_upsampler, list_upsamplers
from mmdysample.benchmark import command, files, models, report
from mmdysample.benchmark.environment import Environment
from mmdysample.benchmark.figure import draw_figure, figure_points
from mmdysample.benchmark.passes import PASSES
from mmdysample.benchmark.published import published_miou, published_ratio
from mmdysample.benchmark.textbook import VARIANTS
from mmdysample.benchmark.timing import Timing
from mmdysample.benchmark.unfold import Unfolding, reassembles
from mmdysample.benchmark.upsamplers import Cost, Measured, measure_upsamplers
from mmdysample.catalogue.capabilities import make, make_inputs
from mmdysample.pictures.point_names import name_points


def silent(items, label):
    return items


class TestUpsamplers:
    def test_all_at_a_small_size(self):
        rows = measure_upsamplers(list_upsamplers(), (2, 64, 6, 5), rounds=3, seconds=0, unfold=True, clock=FakeClock(), show=silent)
        assert [row.name for row in rows] == list_upsamplers()
        by_name = {row.name: row for row in rows}
        assert all(row.error == '' and list(row.costs) == list(PASSES) for row in rows)
        assert by_name['DySample'].parameters == 64 * 32 + 32
        assert by_name['DySample'].multiplications == 2 * (64 * 32 * 30 + 4 * 64 * 120)
        assert min(row.costs['forward'].memory for row in rows) >= 2 * 64 * 120 * 4  # the output
        assert by_name['CARAFE'].costs['forward'].time.calls == 3
        unfolded = {row.name for row in rows if row.costs['forward'].unfold}
        assert unfolded == {'A2U', 'CARAFE', 'DLU', 'FADE', 'FADE-Lite', 'FreqFusion', 'FRFU', 'ReSFU', 'SAPA-B', 'SAPA-I'}

    def test_what_cannot_be_is_a_row_that_says_so(self):
        size = (1, 30, 4, 3)
        upsamplers = ['A2U', "dict(type='DySample', groups=3)", 'nearest']
        rows = measure_upsamplers(upsamplers, size, 3, rounds=1, seconds=0, clock=FakeClock(), show=silent)
        assert [row.name for row in rows] == ['bilinear', 'A2U', 'DySample_groups=3', 'nearest']
        assert rows[1].costs == {}
        assert rows[1].error == 'A2U: scale_factor must be 2, got 3'
        assert rows[2].error == ''
        cells = report.upsampler_table(rows, size, 3)
        assert [row['fwd, ms (quartiles)'] == '' for row in cells] == [False, True, False, False]
        assert cells[1]['failed'] == rows[1].error

    def test_a_pass_that_fails(self, monkeypatch):
        def no_gradient(self, x):
            if torch.is_grad_enabled():
                raise torch.cuda.OutOfMemoryError('CUDA out of memory.')
            return nn.functional.interpolate(x, scale_factor=2.0)

        monkeypatch.setattr(VARIANTS['DySample'], 'forward', no_gradient)
        rows = measure_upsamplers(['DySample', 'bilinear'], (1, 32, 3, 3), rounds=1, seconds=0, clock=FakeClock(), show=silent)
        assert list(rows[0].costs) == ['forward']
        assert rows[0].error == 'forward + backward: out of memory'
        assert list(rows[1].costs) == list(PASSES)

    def test_unfolding_that_fails(self, monkeypatch):
        def fails(*_):
            raise torch.cuda.OutOfMemoryError('CUDA out of memory.')

        monkeypatch.setattr(Unfolding, 'forward', fails)
        options = dict(rounds=1, seconds=0, unfold=True, clock=FakeClock(), show=silent)
        rows = measure_upsamplers(['CARAFE', 'bilinear'], (1, 32, 3, 3), **options)
        assert rows[0].error == 'forward, by unfolding: out of memory; forward + backward, by unfolding: out of memory'
        assert [cost.unfold for cost in rows[0].costs.values()] == [None, None]
        assert rows[1].error == ''

    def test_another_dtype_is_what_is_computed_in(self):
        seen = []

        def clock(call):
            handle = nn.modules.module.register_module_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
            with handle:
                call()
            return 1.0

        measure_upsamplers(['DySample'], (1, 32, 3, 3), environment=Environment.here(dtype='bfloat16'), rounds=1, seconds=0, clock=clock)
        assert set(seen) == {torch.bfloat16}

    def test_compiled(self, monkeypatch):
        compiled = []
        monkeypatch.setattr(nn.Module, 'compile', lambda self, **options: compiled.append((type(self.module).__name__, options)))
        environment = Environment.here(compiled=True)
        measure_upsamplers(['DySample'], (1, 32, 3, 3), environment=environment, rounds=1, seconds=0, clock=FakeClock(), show=silent)
        assert compiled[1] == ('DySample', {'fullgraph': True, 'dynamic': False})

    @pytest.mark.parametrize('name', ['CARAFE', 'SAPA-I'])
    def test_the_unfold_formulation_is_the_same_function(self, name):
        module = make(name)
        inputs = make_inputs(module)
        torch.testing.assert_close(Unfolding(module)(*inputs), module(*inputs))
        assert reassembles(module, inputs)
        assert not reassembles(make('DySample'), inputs[:1])


def fake_rows(**medians):
    """Measurements of these latencies."""
    return [
        Measured(name, 8, 9, {'forward': Cost(Timing(0.9 * ms, ms, 1.1 * ms, 5), 2**20)})
        for name, ms in ((name.replace('_plus', '+').replace('_minus', '-'), ms) for name, ms in medians.items())
    ]


class TestPublished:
    def test_ratios_of_the_paper_s_figure(self):
        assert published_ratio('DySample', (1, 256, 120, 120), 2) == '~3.9'  # 6.2 ms and 1.6 ms
        assert published_ratio('DySample', (1, 256, 120, 121), 2) == published_ratio('DySample', (1, 256, 120, 120), 3) == ''
        assert published_ratio('DUpsample', (1, 256, 120, 120), 2) == ''

    def test_they_stand_beside_ours(self):
        rows = fake_rows(bilinear=2.0, CARAFE=5.0)
        (_, carafe) = report.upsampler_table(rows, (1, 256, 120, 120), 2)
        assert (carafe['fwd / bilinear'], carafe["in the paper's figure"]) == ('2.5', '~7.9')
        assert carafe['fwd, ms (quartiles)'] == '5.00 (4.50-5.50)'
        assert "in the paper's figure" not in report.upsampler_table(rows, (1, 256, 60, 120), 2)[1]


PAPER_MS = {
    'bilinear': 1.6, 'DySample': 6.2, 'DySample-S': 6.8, 'DySample+': 7.1, 'DySample-S+': 7.6, 'deconv': 10.4,
    'CARAFE': 12.6, 'FADE': 22.9, 'SAPA-B': 27.8, 'pixel_shuffle': 28.0,
}  # fmt: skip


def measured(latencies):
    return [Measured(name, 8, 9, {'forward': Cost(Timing(0.98 * ms, ms, 1.02 * ms, 5), 0)}) for name, ms in latencies.items()]


class TestFigure:
    def test_its_circles(self):
        failed = Measured('SAPA-B', 1, 1, {}, 'out of memory')
        points = figure_points([*measured({'nearest': 1.0, 'bilinear': 2.0, 'DySample': 3.0, 'DUpsample': 4.0}), failed], published_miou)
        assert [point.name for point in points] == ['bilinear', 'DySample']  # the others have no mIoU to be compared, or no time
        assert [point.miou.mark for point in points] == ['C2', 'FIG']
        assert points[0].gflops == 0
        assert points[1].gflops == pytest.approx(0.12, abs=0.005)

    @pytest.mark.parametrize(
        'latencies',
        [
            PAPER_MS,
            {name: 5.0 for name in PAPER_MS},
            {name: ms for name, ms in PAPER_MS.items() if 'DySample' in name},
            {'bilinear': 3.0},
        ],
        ids=['paper', 'all equal', 'family', 'one'],
    )
    def test_no_name_covers_another_or_a_dot(self, monkeypatch, tmp_path, latencies):
        placed = []

        def spy(ax, names, points, drawn):
            texts = name_points(ax, names, points, drawn)
            placed.extend(([text.get_window_extent() for text in texts], ax.transData.transform(points), ax.bbox))

        monkeypatch.setattr('mmdysample.benchmark.figure.name_points', spy)
        draw_figure(figure_points(measured(latencies), published_miou), tmp_path / 'new/figure.png', 'something', 'where')
        boxes, dots, area = placed
        assert len(boxes) == len(latencies)
        for i, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[:i])
            assert not any(box.contains(*dot) for dot in dots)
            assert all(area.contains(*corner) for corner in box.corners())
        assert (tmp_path / 'new/figure.png').stat().st_size > 10_000


class TestFiles:
    def test_a_csv_holds_all_that_was_measured(self, tmp_path):
        rows = [
            Measured('DySample', 8224, 10**9, {'forward': Cost(Timing(1.25, 1.5, 1.125, 7), 12345, 3.5)}, 'forward + backward: no, "no"'),
            Measured('A2U', None, None, {}, 'in_channels must be divisible by 32, got 30'),
            Measured('CARAFE', 1, 2, {label: Cost(Timing(0.1 + i, 0.2, 1 / 3, 7), 2**40) for i, label in enumerate(PASSES)}),
        ]
        path = tmp_path / 'x.csv'
        path.write_text(files.to_csv([files.upsampler_columns(row) for row in rows], CPU))
        with path.open(newline='') as file:
            first, failed, last = csv.DictReader(file)
        assert (first['machine'], first['torch'], first['dtype'], first['threads']) == ('AMD EPYC 7B13', '2.13.0+cpu', 'float32', '2')
        assert [first[f'forward_ms_{part}'] for part in ('q1', 'median', 'q3')] == ['1.25', '1.5', '1.125']
        assert (first['forward_calls'], first['forward_memory_bytes'], first['forward_unfold_ratio']) == ('7', '12345', '3.5')
        assert (first['forward_backward_ms_median'], first['error']) == ('', 'forward + backward: no, "no"')
        assert (failed['parameters'], failed['forward_ms_median'], failed['error']) == (
            '',
            '',
            'in_channels must be divisible by 32, got 30',
        )
        assert (float(last['forward_ms_q3']), int(last['forward_backward_memory_bytes'])) == (1 / 3, 2**40)

    def test_nothing_is_overwritten(self, tmp_path):
        for expected in ('x.csv', 'x_2.csv'):
            with files.new_results(tmp_path / 'out', 'x') as (file, path):
                file.write(b'1')
            assert path.name == expected
        (tmp_path / 'out/x_3.png').touch()

        def interrupted():
            with files.new_results(tmp_path / 'out', 'x') as (_, path):
                assert path.name == 'x_4.csv'
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['x.csv', 'x_2.csv', 'x_3.png']
        with pytest.raises(ValueError, match='takes a folder, got the file'), files.new_results(tmp_path / 'out/x.csv', 'y'):
            pass


def config_of(name):
    config = Config.fromfile(ROOT / f'configs/{name}.py')
    pytest.importorskip(config.default_scope)
    return config


def narrow_segformer():
    config = config_of('segformer_b1_dysample')
    config.model.backbone.update(embed_dims=8, num_layers=[1, 1, 1, 1])
    config.model.decode_head.update(in_channels=[8, 16, 40, 64], channels=32, num_classes=4)
    return config


class TestModels:
    @pytest.mark.parametrize(
        ('name', 'size', 'expected'),
        [
            ('faster_rcnn_dysample', None, (832, 1088)),  # 480x640 becomes 800x1067, padded to multiples of 64
            ('segformer_b1_dysample', None, (512, 704)),  # 512x683, to multiples of 32
            ('depth_swin_t_dysample', None, (480, 640)),
            ('maskformer_swin_b_dysample', (128, 96), (128, 96)),
            ('yolox_tiny_dysample', None, (416, 416)),
            ('rtmdet_tiny_dysample', (96, 160), (96, 160)),
        ],
    )
    def test_the_input_is_that_of_the_config_s_test(self, name, size, expected):
        config = config_of(name)
        with DefaultScope.overwrite_default_scope(config.default_scope):
            holder = nn.Module()
            holder.data_preprocessor = MODELS.build(config.model.data_preprocessor)
            data = models.network_input(config, holder, size)
        assert data['inputs'].shape == (1, 3, *expected)
        assert data['inputs'].abs().max() > 0
        assert data['data_samples'][0].ori_shape == (size or models.IMAGE)  # to which predictions are resized
        assert len(data['data_samples']) == 1

    def test_a_model_with_some_upsamplers(self):
        ended = []
        rows = list(
            models.measure_models(
                {Path('configs/segformer_b1_dysample.py'): narrow_segformer()},
                ['baseline', 'DySample', "dict(type='DySample', groups=7)", 'SAPA-B'],
                (64, 96),
                CPU,
                rounds=2,
                advance=lambda line='', parts=1: ended.append((line, parts)),
                clock=FakeClock(),
            )
        )
        assert [row.upsampler for row in rows] == ['bilinear (baseline)', 'DySample', "dict(type='DySample', groups=7)", 'SAPA-B']
        base, dysample, wrong, guided = rows
        assert (base.model, base.size, base.error) == ('segformer_b1', (64, 96), '')
        assert dysample.parameters - base.parameters == 6 * (32 * 32 + 32)
        assert base.time.calls == guided.time.calls == 2
        assert dysample.memory > 64 * 96 * 4  # at least the logits
        assert wrong.time is None
        assert 'divisible by groups' in wrong.error
        assert sum(parts for _, parts in ended) == 2
        assert [line.split(':')[0] for line, _ in ended if line] == ['segformer_b1']
        cells = report.model_table(rows)
        assert cells[1]['time / first'] == f'{dysample.time.median / base.time.median:.2f}'
        assert cells[1]['FPS'] == f'{1e3 / dysample.time.median:.2f}'
        assert cells[2]['failed'] == wrong.error

    def test_a_model_that_fails_keeps_no_other_from_being_measured(self, monkeypatch):
        config = narrow_segformer()
        config.model.backbone.type = 'Nowhere'
        ended = []

        def advance(line='', parts=1):
            ended.append(parts)

        path = Path('configs/x_dysample.py')
        (row,) = models.measure_models({path: config}, ['DySample'], (64, 64), CPU, rounds=3, advance=advance, clock=FakeClock())
        assert 'Nowhere' in row.error
        assert sum(ended) == 3
        assert report.model_table([row])[0]['FPS'] == ''

    def test_weights_are_shared(self):
        ours, stock = build_upsampler('DySample+', 16), build_upsampler('DySample', 16)
        models.share_weights(ours, stock)
        assert torch.equal(ours.offset.weight, stock.offset.weight)

    def test_nothing_is_downloaded(self):
        config = config_of('segformer_b1_dysample')
        models._forget_pretrained(config.model)
        assert config.model.backbone.init_cfg is None
        assert 'Pretrained' not in str(config.model)


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)


class TestCommand:
    @pytest.mark.usefixtures('no_gpu')
    @pytest.mark.parametrize(
        ('arguments', 'message'),
        [
            (['--device', 'cuda'], 'error: --device cuda needs a GPU, but torch sees none'),
            (['models', '--device', 'cuda'], 'error: --device cuda needs a GPU, but torch sees none'),
            (['textbook', '--device', 'cuda'], 'error: --device cuda needs a GPU, but torch sees none'),
            (['--tf32'], 'error: --tf32 needs --device cuda --dtype float32, got --device cpu --dtype float32'),
            (['--compile', '--unfold'], 'error: --unfold compares formulations in eager mode: leave out --compile'),
            (['--upsamplers', 'Dysampel'], "error: unknown upsampler 'Dysampel' (did you mean 'DySample'"),
            (['models', '--upsamplers', 'Dysampel'], "error: unknown upsampler 'Dysampel' (did you mean 'DySample'"),
            (['models', '--only', 'nothing'], "matches 'nothing'; there are"),
            (['--out', 'README.md'], 'error: --out takes a folder, got the file README.md'),
            (['--size', '3x5'], 'argument --size: takes BxCxHxW, 4 positive integers, got 3x5'),
            (['--size', '1x64x0x5'], 'takes BxCxHxW, 4 positive integers, got 1x64x0x5'),
            (['--size', '1x256x9999999x9999999'], 'cannot make a map of 1x256x9999999x9999999 (out of memory): choose a'),
            (['--size', f'1x64x4x{10**20}'], f'cannot make a map of 1x64x4x{10**20} ('),
            (['textbook', '--size', '1x256x9999999x9999999'], 'choose a smaller --size'),
            (['models', '--size', '64'], 'takes HxW, 2 positive integers, got 64'),
            (['--rounds', '0'], 'takes a positive integer, got 0'),
            (['--seconds', 'inf'], 'takes a number of seconds, got inf'),
            (['cost'], "invalid choice: 'cost' (choose from "),
            (['textbook', '--size', '1x30x4x4'], 'in_channels must be divisible by groups'),
            (['textbook', '--size', '30x4x4'], 'takes BxCxHxW, 4 positive integers, got 30x4x4'),
            (['textbook', '--dtype', 'float32', 'float64'], "argument --dtype: invalid choice: 'float64'"),
            (['textbook', '--type', 'CARAFE'], "argument --type: invalid choice: 'CARAFE'"),
        ],
    )
    def test_wrong_arguments(self, capfd, tmp_path, arguments, message):
        elsewhere = [] if arguments[0] in ('--out', 'cost') else ['--out', str(tmp_path)]
        with pytest.raises(SystemExit) as exit_:
            command.main(ROOT, [*arguments, *elsewhere])
        assert exit_.value.code == 2
        errors = capfd.readouterr().err
        assert message in errors.splitlines()[-1]
        assert 'Traceback' not in errors
        assert list(tmp_path.iterdir()) == []

    def test_a_table_a_csv_and_a_picture(self, capfd, tmp_path):
        arguments = ['--size', '1x32x4x5', '--rounds', '2', '--seconds', '0', '--out', str(tmp_path), '--upsamplers', 'DySample', 'CARAFE']
        assert command.main(ROOT, arguments) == 0
        printed = capfd.readouterr().out
        csv_file, picture = sorted(tmp_path.iterdir())
        assert csv_file.stem == picture.stem
        assert csv_file.stem.startswith('upsamplers_')
        assert csv_file.stem.endswith('_cpu_float32_1x32x4x5_x2')
        assert f'written: {csv_file} and {picture}' in printed
        assert '~' not in printed  # the paper's ratios are of one size
        assert [row['name'] for row in csv.DictReader(csv_file.open(newline=''))] == ['bilinear', 'DySample', 'CARAFE']
        assert command.main(ROOT, [*arguments, '--format', 'csv']) == 0
        rows = list(csv.DictReader(io.StringIO(capfd.readouterr().out)))
        assert [row['name'] for row in rows] == ['bilinear', 'DySample', 'CARAFE']
        assert len(list(tmp_path.iterdir())) == 4

    def test_without_a_published_miou_there_is_no_picture(self, capfd, tmp_path, monkeypatch):
        monkeypatch.setattr(command, 'published_miou', lambda name: None)
        command.main(ROOT, ['--size', '1x32x4x5', '--rounds', '1', '--seconds', '0', '--out', str(tmp_path), '--upsamplers', 'bilinear'])
        assert 'no picture' in capfd.readouterr().out
        assert [path.suffix for path in tmp_path.iterdir()] == ['.csv']

    def test_an_interruption_keeps_the_models_that_are_done(self, capfd, tmp_path, monkeypatch):
        def interrupted(*_):
            yield models.MeasuredModel('a', 'DySample', (64, 96), 10, Timing(1.0, 2.0, 4.0, 3), 2**20)
            raise KeyboardInterrupt

        monkeypatch.setattr(command, 'measure_models', interrupted)
        assert command.main(ROOT, ['models', '--only', 'segformer', '--out', str(tmp_path)]) == 130
        out, err = capfd.readouterr()
        assert '500.00' in out  # FPS
        assert 'interrupted' in err
        (path,) = tmp_path.iterdir()
        (row,) = csv.DictReader(path.open(newline=''))
        assert (row['model'], row['height'], row['ms_q3'], row['memory_bytes']) == ('a', '64', '4.0', str(2**20))

    def test_every_config_with_an_upsampler_is_among_the_models(self):
        from mmdysample.catalogue.twins import find_configs

        pytest.importorskip('mmdet')
        pytest.importorskip('mmseg')
        names = {path.stem for path in find_configs(ROOT / 'configs')}
        assert names == {path.stem for path in (ROOT / 'configs').glob('*_dysample.py')}
