"""The tables, from entries made by hand; and the program, on a run that was really trained."""

import csv
import errno
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytest.importorskip('mmdet')

from experiments.reports.entries import Entry
from experiments.reports.runs import Run
from experiments.reports.tables import to_csv, to_markdown
from mmdet_cbn.data.shapes import generate

ROOT = Path(__file__).parents[3]
SIZES = ['AP', 'AP50', 'AP75', 'AP S', 'AP M', 'AP L']


def entry(name, status='finished', where='12 epochs', changed=(), ours=(), **published):
    config = 'configs/cbn/' + name.replace('/', '-')
    return Entry(Path(name), config, status, where, list(changed), dict(ours), published, Run([], []))


BOXES = entry(
    'boxes',
    ours={'box AP': 37.64, 'box AP50': 59.0, 'box AP75': 40.96, 'box AP S': 21.0, 'box AP M': 41.0},
    paper={'box AP': 37.6, 'box AP50': 58.5, 'box AP75': 41.0},
)
MASKS = entry('masks', ours={f'{kind} {size}': 30.0 for kind in ('box', 'mask') for size in SIZES})
UNFINISHED = entry(
    'half',
    'unfinished',
    'epoch 7 of 12',
    ['a.b=1'],
    ours={'box AP': 30.0, 'mask AP': 25.0},
    paper={'box AP': 40.0},
)


def tables(text):
    """Read the tables of a Markdown text; check that their columns are aligned."""
    found = []
    for block in text.split('\n\n'):
        if block.startswith('|'):
            lines = block.splitlines()
            assert (
                len({tuple(match.start() for match in re.finditer(r'(?<!\\)\|', line)) for line in lines})
                == 1
            )
            rows = [[cell.strip() for cell in re.split(r'(?<!\\)\|', line)[1:-1]] for line in lines]
            assert all(re.fullmatch(r':?-+:?', cell) for cell in rows.pop(1))
            found.append(rows)
    return found


def test_numbers_of_the_paper_and_difference_stand_below_ours():
    _, results = tables(to_markdown([BOXES]))
    assert results == [
        ['run', '', 'box AP', 'AP50', 'AP75', 'S', 'M', 'L'],
        ['boxes', 'ours', '37.6', '59.0', '41.0', '21.0', '41.0', '-'],
        ['', 'paper', '37.6', '58.5', '41.0', '-', '-', '-'],
        ['', 'difference', '+0.0', '+0.5', '+0.0', '-', '-', '-'],  # -0.04 is no minus nothing
    ]


def test_numbers_of_the_repository_have_a_difference_of_their_own():
    both = entry('both', ours={'box AP': 37.0}, paper={'box AP': 38.0}, repository={'box AP': 36.5})
    alone = entry('alone', ours={'box AP': 37.0}, repository={'box AP': 36.5, 'mask AP': 30.0})
    _, results = tables(to_markdown([both, alone]))
    assert results[0][2::6] == ['box AP', 'mask AP']
    assert [row[:3] for row in results[1:]] == [
        ['both', 'ours', '37.0'],
        ['', 'paper', '38.0'],
        ['', 'difference', '-1.0'],
        ['', 'repository', '36.5'],
        ['', 'difference', '+0.5'],
        ['alone', 'ours', '37.0'],
        ['', 'repository', '36.5'],
        ['', 'difference', '+0.5'],
    ]
    first, second = csv.DictReader(to_csv([both, alone]).splitlines())
    assert (first['box AP repository'], first['box AP difference to repository']) == ('36.5', '+0.5')
    assert (first['box AP difference'], second['box AP difference']) == ('-1.0', '')
    assert (second['box AP paper'], second['box AP difference to repository']) == ('', '+0.5')


def test_masks_have_columns_where_a_run_has_masks():
    _, results = tables(to_markdown([BOXES, MASKS]))
    assert results[0][2:] == [
        'box AP',
        'AP50',
        'AP75',
        'S',
        'M',
        'L',
        'mask AP',
        'AP50',
        'AP75',
        'S',
        'M',
        'L',
    ]
    assert results[1][-6:] == ['-'] * 6
    assert results[4] == ['masks', 'ours', *['30.0'] * 12]
    assert len(results) == 5  # no line for a paper that reports nothing


def test_runs_without_a_result_are_listed_where_they_stand():
    runs, results = tables(to_markdown([UNFINISHED, BOXES]))
    assert runs == [
        ['run', 'config', 'status', 'where it stands'],
        ['half', 'configs/cbn/half', 'unfinished', 'epoch 7 of 12'],
        ['boxes', 'configs/cbn/boxes', 'finished', '12 epochs'],
    ]
    assert [row[0] for row in results] == ['run', 'boxes', '', '']
    assert results[0][-1] == 'L'  # the unfinished run alone has masks
    assert 'Results' not in to_markdown([UNFINISHED])


def test_changed_settings():
    text = to_markdown([UNFINISHED, entry('many', changed=[f'x={number}' for number in range(6)])])
    assert '- half: `a.b=1`\n- many: `x=0`, `x=1`, `x=2`, `x=3` and 2 more\n' in text
    assert 'Settings' not in to_markdown([BOXES])


def test_names_that_would_break_the_table():
    runs, _ = tables(to_markdown([entry('a|b', ours={'box AP': 1.0})]))
    assert runs[1][0] == r'a\|b'


def test_runs_of_one_config_each_on_a_row():
    """Named by their paths where the names of their folders are the same."""
    runs, _ = tables(to_markdown([entry('seed0/work'), entry('seed1/work'), entry('seed1/other')]))
    assert [row[0] for row in runs[1:]] == ['seed0/work', 'seed1/work', 'other']


def test_csv():
    odd = entry('odd', where='epoch 1, "so far"', changed=['a=[1, 2]', 'b=3'])
    text = to_csv([BOXES, UNFINISHED, odd])
    boxes, unfinished, last = csv.DictReader(text.splitlines())
    assert list(boxes)[:5] == ['run', 'config', 'status', 'where', 'changed']
    groups = [f'{kind} {size}' for kind in ('box', 'mask') for size in SIZES]
    groups += ['top-1', 'top-5', 'mIoU']
    assert list(boxes)[5:] == [
        group + ending
        for group in groups
        for ending in ('', ' paper', ' difference', ' repository', ' difference to repository')
    ]
    assert [boxes[f'box AP50{name}'] for name in ('', ' paper', ' difference')] == ['59.0', '58.5', '+0.5']
    assert [boxes[f'mask AP{name}'] for name in ('', ' paper', ' difference')] == ['', '', '']
    assert [unfinished[f'box AP{name}'] for name in ('', ' paper', ' difference')] == ['30.0', '40.0', '']
    assert (last['where'], last['changed']) == ('epoch 1, "so far"', 'a=[1, 2]; b=3')


def test_metafiles_name_configs_and_columns():
    """Else the report would not find them."""
    for metafile in ROOT.glob('configs/*/metafile.yml'):
        for model in yaml.safe_load(metafile.read_text())['Models']:
            assert metafile.with_name(f'{model["Name"]}.py').is_file()
            for source in ('Paper Results', 'Repository Results'):
                numbers = model['Metadata'].get(source, {}).get('Metrics', {})
                columns = {f'{kind} {size}' for kind in ('box', 'mask') for size in SIZES}
                assert {*numbers} <= columns | {'top-1', 'top-5', 'mIoU'}
                assert all(1 < number < 100 for number in numbers.values())


def program(name, *arguments, **environment):
    return subprocess.run(
        [sys.executable, '-W', 'ignore', str(ROOT / 'tools' / name), *map(str, arguments)],
        env={**os.environ, 'PYTHONPATH': str(ROOT), 'CUDA_VISIBLE_DEVICES': '-1', **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A folder with a run of one epoch, and one with an evaluation of its checkpoint."""
    folder = tmp_path_factory.mktemp('report')
    generate(folder / 'shapes', train=16, val=5, size=64)
    config, shapes = ROOT / 'tests/helpers/tiny_mask_rcnn.py', {'SHAPES': str(folder / 'shapes')}
    result = program('train.py', config, '--work-dir', folder / 'run', **shapes)
    assert result.returncode == 0, result.stderr[-3000:]
    result = program(
        'test.py', config, folder / 'run/epoch_1.pth', '--work-dir', folder / 'evaluation', **shapes
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return folder


def logged(work_dir):
    """The metrics as MMDetection's text log prints them, in percent; -1 is no number."""
    (log,) = work_dir.glob('*/*.log')
    text = log.read_text()
    lines = [re.search(rf'{kind}_mAP_copypaste: (.*)', text).group(1).split() for kind in ('bbox', 'segm')]
    return ['-' if value == '-1.000' else f'{100 * float(value):.1f}' for line in lines for value in line]


@pytest.mark.slow
def test_real_run(trained, tmp_path):
    out, curves = tmp_path / 'new/report.md', tmp_path / 'curves.png'
    folders = trained / 'run', trained / 'evaluation'
    result = program('report.py', *folders, '--out', out, '--curves', curves)
    assert result.returncode == 0, result.stderr
    assert result.stdout == ''
    runs, results = tables(out.read_text())
    assert runs[1:] == [
        ['run', 'tiny_mask_rcnn', 'finished', '1 epoch'],
        ['evaluation', 'tiny_mask_rcnn', 'evaluated', 'epoch_1.pth'],
    ]
    assert results[1:] == [[folder.name, 'ours', *logged(folder)] for folder in folders]
    assert curves.read_bytes().startswith(b'\x89PNG')
    assert sorted(path.name for path in tmp_path.rglob('*') if path.is_file()) == ['curves.png', 'report.md']

    result = program('report.py', trained / 'run', '--format', 'csv')
    (row,) = csv.DictReader(result.stdout.splitlines())
    assert [row[f'mask {size}'] or '-' for size in SIZES] == logged(trained / 'run')[6:]


@pytest.fixture(scope='module')
def report():
    """The names of tools/report.py."""
    return runpy.run_path(str(ROOT / 'tools/report.py'))


def test_wrong_input_is_one_line(report, tmp_path, monkeypatch):
    options = ['--out', str(tmp_path / 'report.md'), '--curves', str(tmp_path / 'curves.png')]
    for folder, words in (('nowhere', 'there is no folder'), ('.', 'no run in')):
        monkeypatch.setattr(sys, 'argv', ['report.py', str(tmp_path / folder), *options])
        with pytest.raises(SystemExit) as stop:
            report['main']()
        assert stop.value.code.startswith(f'error: {words} {tmp_path}')
        assert '\n' not in stop.value.code
    assert list(tmp_path.iterdir()) == []


def test_file_is_written_whole_or_not_at_all(report, tmp_path):
    def fill(path):
        path.write_text('half of')
        raise OSError(errno.ENOSPC, 'no space left')

    out = tmp_path / 'report.md'
    out.write_text('the last one')
    with pytest.raises(OSError, match=r'no space left.*report\.md'):
        report['write'](out, fill)
    assert [path.read_text() for path in tmp_path.iterdir()] == ['the last one']


def test_no_curves_without_a_training(report, tmp_path):
    evaluated = Entry(tmp_path, '-', 'evaluated', 'epoch_1.pth', [], {}, {}, None)
    with pytest.raises(Exception, match='none of the runs has a log of a training'):
        report['draw']([evaluated], tmp_path / 'curves.png')
