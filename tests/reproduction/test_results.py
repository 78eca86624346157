"""Results that are kept beside the code: a training whose line is there is not done again."""

import argparse
import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from processes import Stub

from mmdysample.engine.config import load_config
from mmdysample.engine.options import Options
from mmdysample.evaluation.image_counts import ImageCounts
from mmdysample.reproduction import command
from mmdysample.reproduction.results import Place, read_lines, recipe

pytestmark = pytest.mark.usefixtures('_frameworks', '_no_counting', '_no_settings', '_data_is_there')

ROWS = ('nuclei_coarse', '--rows', 'bilinear', 'DySample', '--format', 'csv')
GAIN = 'mIoU, against baseline'
BETTER = {'bilinear': 0, 'DySample': 7}
CLASSES = ('background', 'inside', 'border')


def counts_of(row, seed):
    """Six images in which DySample hits more, by another number in each image and with each seed."""
    counts = np.empty((6, 3, 2, 3), np.int64)
    counts[:, :, 1] = 100
    counts[:, :, 0] = (50 + 3 * seed + np.arange(6) + BETTER.get(row, 3) * (1 + 0.1 * (np.arange(6) + seed) % 1)).astype(int)[:, None, None]
    return ImageCounts(tuple(f'{i}.png' for i in range(6)), CLASSES, counts)


class Counting(Stub):
    """Its test writes the counts of the images where the command says, and the metrics that follow from them."""

    def __call__(self, line, log, held):
        if 'test_evaluator.counts=' in ' '.join(line) and self.counts:
            path = next(part for part in line if part.startswith('test_evaluator.counts=')).partition('=')[2]
            folder = self.folder(line)
            counts_of(folder.parent.name, int(folder.name[4:])).write(folder / 'counts.csv')
            assert path == str(folder / 'counts.csv')
        return super().__call__(line, log, held)

    counts = True

    @staticmethod
    def folder(line):
        return Path(line[line.index('--work-dir') + 1])


def counting(**kwargs):
    return Counting(find=lambda work: {**counts_of(work.parent.name, int(work.name[4:])).scores(), 'time': 1.0}, **kwargs)


def table(out):
    return {row['row']: row for row in csv.DictReader(out.splitlines())}


def test_a_line_for_each_row_and_seed(call, tmp_path):
    code, out, _ = call(counting(), *ROWS, '--seeds', '3')
    assert code == 0
    lines = read_lines(tmp_path / 'kept/nuclei_coarse.csv')
    assert sorted((line['row'], line['seed']) for line in lines) == [(row, str(i)) for row in ('DySample', 'bilinear') for i in range(3)]
    assert len({line['recipe'] for line in lines}) == 6
    assert 'time' not in lines[0]
    for line in lines:
        scores = counts_of(line['row'], int(line['seed'])).scores()
        assert {name: float(line[name]) for name in scores} == scores
        assert ImageCounts.read(tmp_path / f'kept/nuclei_coarse/{line["row"]}-seed{line["seed"]}-{line["recipe"]}.csv').images[0] == '0.png'
    means = {row: np.mean([counts_of(row, seed).scores()['mIoU'] for seed in range(3)]) for row in BETTER}
    found = table(out)
    assert {row: float(found[row]['mIoU, ours'].split()[0]) for row in BETTER} == pytest.approx(means, abs=0.0051)
    gain = found['DySample']['mIoU, against baseline']
    assert float(gain.split()[0]) == pytest.approx(means['DySample'] - means['bilinear'], abs=0.0051)
    assert found['DySample']['mIoU, verdict'] == 'above'
    assert found['bilinear']['mIoU, against baseline'] == ''


def test_what_is_kept_is_not_done_again_on_another_machine(call, tmp_path):
    _, first, _ = call(counting(), *ROWS, '--seeds', '2')
    (tmp_path / 'out').rename(tmp_path / 'elsewhere')
    nothing = Stub(fail=['.'])
    code, again, err = call(nothing, *ROWS, '--seeds', '2')
    assert (code, nothing.commands) == (0, [])
    assert again == first
    assert 'not used' not in err
    third = counting()
    assert call(third, *ROWS, '--seeds', '3')[0] == 0
    assert sorted(told[2] for told in third.told) == ['seed2'] * 4


def test_other_options_are_another_recipe(call, tmp_path):
    call(counting(), *ROWS, '--seeds', '1')
    (tmp_path / 'out').rename(tmp_path / 'elsewhere')
    other = counting()
    code, _, err = call(other, *ROWS, '--seeds', '1', '--cfg-options', 'optim_wrapper.optimizer.lr=0.5')
    assert code == 0
    assert len(other.commands) == 4
    assert f'2 lines of {tmp_path / "kept/nuclei_coarse.csv"} are of another version of the config' in err
    assert len(read_lines(tmp_path / 'kept/nuclei_coarse.csv')) == 4


def test_a_training_that_was_complete_before_it_was_kept(call, tmp_path):
    call(counting(), *ROWS, '--seeds', '1')
    (tmp_path / 'kept').rename(tmp_path / 'lost')
    nothing = Stub(fail=['.'])
    assert call(nothing, *ROWS, '--seeds', '1', '--dry-run')[0] == 0
    assert not (tmp_path / 'kept').exists()
    assert call(nothing, *ROWS, '--seeds', '1')[0] == 0
    assert nothing.commands == []
    wanted, got = (sorted(map(str, read_lines(tmp_path / name / 'nuclei_coarse.csv'))) for name in ('lost', 'kept'))
    assert got == wanted


@pytest.mark.parametrize(
    'break_it', [lambda text: text[:-30], lambda text: 'row,seed\n1,2\n', lambda text: text.replace('bilinear,0,', 'bilinear,')]
)
def test_a_damaged_file_is_named(call, tmp_path, break_it):
    call(counting(), *ROWS, '--seeds', '1')
    file = tmp_path / 'kept/nuclei_coarse.csv'
    file.write_text(break_it(file.read_text()))
    code, _, err = call(Stub(fail=['.']), *ROWS, '--seeds', '1')
    assert code == 2
    assert f'{file}, line 2' in err or f'{file}, line 3' in err
    assert 'name another folder with --results' in err


def test_other_metrics_in_a_file(tmp_path):
    place = Place(tmp_path / 'a.csv', 'bilinear', 0, 'x')
    place.keep(tmp_path, {'mIoU': 1.0}, '2.0', None)
    with pytest.raises(ValueError, match=r'a.csv has other columns than this result'):
        Place(tmp_path / 'a.csv', 'CARAFE', 0, 'x').keep(tmp_path, {'AP': 1.0}, '2.0', None)
    assert place.read().metrics == {'mIoU': 1.0}
    assert place.read().seconds_per_step is None


def test_a_recipe_has_no_paths_of_a_machine(monkeypatch):
    def of(root='data/nuclei', **options):
        monkeypatch.setenv('NUCLEI_ROOT', root)
        return recipe(load_config(str(ROOT / 'configs/nuclei/nuclei_coarse.py'), options))

    same = of()
    assert of('/somewhere/else') == same
    assert {of(root) for root in ('data', '.', 'train', 'val')} == {same}  # which are parts of other texts
    assert of(**{'train_dataloader.dataset.data_root': '/x', 'test_dataloader.dataset.data_root': '/x'}) == same
    assert of(**{'model.backbone.init_cfg.checkpoint': '/elsewhere/mobilenet_v2.pth'}) == same
    assert of(**{'default_hooks.checkpoint.interval': 7}) == same
    for change in (
        {'model.backbone.init_cfg.checkpoint': '/elsewhere/other.pth'},
        {'model.backbone.init_cfg': None},
        {'train_cfg.max_iters': 7},
        {'randomness.seed': 1},
        {'custom_hooks': [dict(type='EMAHook')]},
        {'load_from': 'a.pth'},
        {'test_evaluator.ignore_index': 0},
        {'train_dataloader.batch_size': 4},
        {'optim_wrapper.optimizer.lr': 1.0},
    ):
        assert of(**change) != same


def test_nuclei_means_three_tables():
    assert command.names_of('nuclei') == ['nuclei_semantic', 'nuclei_coarse', 'nuclei_instances']
    assert command.names_of('boundary') == ['boundary']


def test_rows_without_a_result_are_named_and_left_out(call):
    printed = call(counting(), 'nuclei_coarse', '--rows', 'bilinear', 'DySample', 'CARAFE', '--seeds', '2', '--dry-run')[1]
    assert all(name in printed for name in ('bilinear', 'DySample', 'CARAFE'))
    assert 'Not trained' not in printed
    call(counting(), *ROWS, '--seeds', '2')
    printed = call(counting(), 'nuclei_coarse', '--rows', 'bilinear', 'DySample', 'CARAFE', '--seeds', '2', '--dry-run')[1]
    assert '| CARAFE' not in printed
    assert 'Not trained: CARAFE.' in printed
    assert 'Mean ± standard deviation of 2 seeds.' in printed
    assert 'Against baseline:' in printed


def test_the_folder_of_the_lines_is_not_that_of_the_tables(tmp_path, capsys):
    with pytest.raises(SystemExit, match='2'):
        command.main(ROOT, Stub(fail=['.']), [*ROWS, '--out', str(tmp_path / 'a'), '--results', str(tmp_path / 'b/../a')])
    assert 'is the folder of --results, whose files would be overwritten' in capsys.readouterr().err


def test_two_processes_keep_at_once(tmp_path):
    """One header and a line for each result, whichever comes first."""
    script = (
        'import sys; from pathlib import Path; from mmdysample.reproduction.results import Place; folder = Path(sys.argv[1])\n'
        "for seed in range(40): Place(folder / 'a.csv', sys.argv[2], seed, 'x').keep(folder, {'mIoU': 1.0}, '2.0', None)"
    )
    started = [subprocess.Popen([sys.executable, '-c', script, str(tmp_path), row]) for row in ('CARAFE', 'bilinear', 'bilinear')]
    assert [process.wait() for process in started] == [0, 0, 0]
    lines = read_lines(tmp_path / 'a.csv')
    assert sorted((line['row'], int(line['seed'])) for line in lines) == [
        (row, seed) for row in ('CARAFE', 'bilinear') for seed in range(40)
    ]


def test_a_number_that_is_none(tmp_path):
    place = Place(tmp_path / 'a.csv', 'bilinear', 0, 'x')
    place.keep(tmp_path, {'mIoU': 12.5}, '2.0', 0.25)
    assert (place.read().metrics, place.read().seconds_per_step) == ({'mIoU': 12.5}, 0.25)
    text = place.file.read_text()
    for broken in (text.replace('12.5', 'abc'), text.replace('0.250', 'quick')):
        place.file.write_text(broken)
        with pytest.raises(ValueError, match=r'a.csv, line 2, is damaged'):
            place.read()


def test_a_training_that_found_nothing_is_not_kept(tmp_path):
    """mmdet then writes no metrics, and a line without them would be the columns of all others."""
    file = tmp_path / 'a.csv'
    Place(file, 'nearest', 0, 'x').keep(tmp_path, {'time': 1.0}, '2.0', None)
    assert not file.exists()
    Place(file, 'bilinear', 0, 'x').keep(tmp_path, {'mIoU': 1.0, 'time': 1.0}, '2.0', None)
    Place(file, 'CARAFE', 0, 'x').keep(tmp_path, {}, '2.0', None)
    assert [line['row'] for line in read_lines(file)] == ['bilinear']


def test_a_line_without_its_end(call, tmp_path):
    """Its last number may have lost digits: 54.9 of 54.97 is a number, too."""
    call(counting(), *ROWS, '--seeds', '1')
    file = tmp_path / 'kept/nuclei_coarse.csv'
    text = file.read_text()
    for cut in (1, 2):
        file.write_text(text[:-cut])
        code, _, err = call(Stub(fail=['.']), *ROWS, '--seeds', '1')
        assert code == 2
        assert f'{file}, line 3, is cut off: remove it' in err


def test_another_row_to_compare_with(call, tmp_path):
    call(counting(), *ROWS, '--seeds', '3')
    stock, other = (table(call(Stub(), *ROWS, '--seeds', '3', *more)[1]) for more in ((), ('--against', 'DySample')))
    assert other['DySample']['mIoU, against DySample'] == ''
    gain, loss = (float(text.split()[0]) for text in (stock['DySample'][GAIN], other['bilinear']['mIoU, against DySample']))
    assert gain == -loss != 0
    assert (stock['DySample']['mIoU, verdict'], other['bilinear']['mIoU, verdict']) == ('above', 'below')
    assert {'nuclei_coarse_rows.csv', 'nuclei_coarse_rows_against_DySample.csv'} <= {file.name for file in (tmp_path / 'out').iterdir()}
    printed = call(Stub(), *ROWS[:-2], '--seeds', '3', '--against', 'DySample')[1]
    assert 'Against DySample: the mean difference from DySample over' in ' '.join(printed.split())


def test_rows_to_compare_with_that_are_refused(call):
    for row, why in (('CARAFE', 'is not among --rows bilinear DySample: add it'), ('DySmaple', "no row 'DySmaple'")):
        code, _, err = call(Stub(fail=['.']), *ROWS, '--against', row)
        assert code == 2
        assert why in err
    for arguments, why in (
        (('nuclei',), '--against needs one table, not nuclei'),
        (('segformer',), '--against is for --data shapes and nuclei'),
        (('complexity',), '--against is for --data shapes and nuclei'),
    ):
        code, _, err = call(Stub(fail=['.']), *arguments, '--against', 'DySample')
        assert code == 2
        assert why in err


def test_the_number_of_gpus_is_part_of_a_recipe():
    config = load_config(str(ROOT / 'configs/nuclei/nuclei_coarse.py'), {})
    assert len({recipe(config), recipe(config, 2), recipe(config, 4)}) == 3
    assert recipe(config) == recipe(config, 1)


def test_a_table_is_shown_where_nothing_can_be_kept(call, tmp_path):
    _, first, _ = call(counting(), *ROWS, '--seeds', '1')
    (tmp_path / 'kept').rename(tmp_path / 'lost')
    (tmp_path / 'kept').mkdir()
    (tmp_path / 'kept/nuclei_coarse').write_text('a file in place of the folder of the counts')
    code, again, err = call(Stub(fail=['.']), *ROWS, '--seeds', '1')
    assert (code, again) == (0, first)
    assert 'not kept: nuclei_coarse/DySample/seed0: ' in err


def test_a_row_that_found_nothing_was_trained(call):
    """It has a line without numbers, and is not among those that were not trained."""
    found_nothing = Counting(find=lambda work: {} if work.parent.name == 'DySample' else counts_of('bilinear', 0).scores())
    arguments = ('nuclei_coarse', '--rows', 'bilinear', 'DySample', 'CARAFE', '--seeds', '1', '--format', 'markdown')
    code, printed, _ = call(found_nothing, *arguments)
    assert code == 0
    assert '| DySample ' in printed
    assert 'Not trained' not in printed


def test_a_training_on_other_gpus_is_not_taken_for_this_one(call, tmp_path):
    """Its batch is another, whether its line is kept or only its folder."""
    two = ('--gpus', '0', '1', '--gpus-per-row', '2')
    assert call(counting(), *ROWS, '--seeds', '1', *two)[0] == 0
    (tmp_path / 'kept/nuclei_coarse.csv').unlink()
    code, _, err = call(Stub(fail=['.']), *ROWS, '--seeds', '1')
    assert code != 0
    assert 'was trained on 2 GPUs: give as many to a row (--gpus, --gpus-per-row), or choose another --out' in err
    assert call(Stub(fail=['.']), *ROWS, '--seeds', '1', *two)[0] == 0
    (tmp_path / 'out').rename(tmp_path / 'elsewhere')
    again = counting()
    code, _, err = call(again, *ROWS, '--seeds', '1')
    assert (code, len(again.commands)) == (0, 4)
    assert '2 lines of' in err


def test_what_is_kept_needs_no_folder(call, tmp_path):
    """A folder of another version of the config does not matter where the line is there."""
    _, first, _ = call(counting(), *ROWS, '--seeds', '1')
    for note in (tmp_path / 'out').rglob('training.json'):
        note.write_text(note.read_text().replace('"digest": "', '"digest": "0'))
    code, again, err = call(Stub(fail=['.']), *ROWS, '--seeds', '1')
    assert (code, again) == (0, first)
    assert 'not kept' not in err


def test_a_test_without_counts_failed(call):
    stub = counting()
    stub.counts = False
    code, _, err = call(stub, *ROWS, '--seeds', '1')
    assert code == 1
    assert 'test.py left no counts.csv in' in err


def test_counts_of_another_test(call, tmp_path):
    call(counting(), *ROWS, '--seeds', '2')
    file = next((tmp_path / 'kept/nuclei_coarse').glob('DySample-seed1-*'))
    file.write_text(file.read_text()[:-2] + '\n')
    code, _, err = call(Stub(fail=['.']), *ROWS, '--seeds', '2')
    assert code == 2
    assert f'{file} has other counts than those of the metrics of this test' in err
    file.unlink()
    assert call(Stub(fail=['.']), *ROWS, '--seeds', '2')[0] == 0


@pytest.mark.parametrize('name', ['my results, (all)', "a user's [x]"])
def test_folders_of_any_name(name, tmp_path, capsys):
    out = tmp_path / name
    assert command.main(ROOT, Quoted(find=counting().find), [*ROWS, '--seeds', '1', '--out', str(out), '--results', str(out / 'kept')]) == 0
    assert len(list((out / 'kept/nuclei_coarse').iterdir())) == 2


class Quoted(Counting):
    """Reads the option as the tool does."""

    def __call__(self, line, log, held):
        if '--cfg-options' in line and 'test.py' in ' '.join(line):
            parser = argparse.ArgumentParser()
            parser.add_argument('--cfg-options', nargs='+', action=Options)
            index = line.index('--cfg-options')
            path = parser.parse_args(line[index : index + 2]).cfg_options['test_evaluator.counts']
            line = [part if not part.startswith('test_evaluator.counts=') else f'test_evaluator.counts={path}' for part in line]
        return super().__call__(line, log, held)


def test_rows_of_several_revisions_and_devices_are_told(call, tmp_path):
    """Their times of a step do not compare, and are left out."""
    assert call(counting(), *ROWS, '--seeds', '2')[0] == 0
    file = tmp_path / 'kept/nuclei_coarse.csv'
    lines = read_lines(file)
    told = {'revision': ['aaaa', 'aaaa', 'bbbb', 'bbbb'], 'device': ['one', 'two', 'one', 'one'], 's a step': ['0.500'] * 4}

    def change(*names):
        changed = [{**line, **{name: told[name][i] for name in names}} for i, line in enumerate(lines)]
        with file.open('w', newline='') as opened:
            writer = csv.DictWriter(opened, list(lines[0]), lineterminator='\n')
            writer.writeheader()
            writer.writerows(changed)
        return call(Stub(fail=['.']), *ROWS[:-2], '--seeds', '2', '--format', 'markdown')[1]

    shown = change('s a step')
    assert ('ms a step |' in shown, 'of different' in shown, 'left out' in shown) == (True, False, False)
    shown = change('s a step', 'revision')
    assert ('ms a step |' in shown, 'left out' in shown) == (True, False)
    assert 'The rows are of different revisions of mmdysample: aaaa, bbbb.' in shown
    shown = change('s a step', 'revision', 'device')
    assert 'ms a step |' not in shown
    assert 'The rows are of different devices: one, two; revisions of mmdysample: aaaa, bbbb.' in shown
    assert 'The times of a step are left out, because they are of different devices or numbers of threads.' in shown
    told['revision'], told['device'] = ['aaaa', '', '', 'aaaa'], ['one', '', '', 'one']
    shown = change('s a step', 'revision', 'device')
    assert ('ms a step |' in shown, 'of different' in shown) == (True, False)
