"""The command lines of experiments.record_statistics and tools/plot_statistics.py, in this process."""

import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from mmdet_cbn.analysis.statistics.file import LayerStatistics, read_statistics, write_statistics

ROOT = Path(__file__).parents[2]


@pytest.fixture
def start(monkeypatch, capsys):
    def run(tool: str, *arguments: object) -> str:
        monkeypatch.setattr(sys, 'argv', [tool, *map(str, arguments)])
        if tool.endswith('.py'):
            runpy.run_path(str(ROOT / 'tools' / tool), run_name='__main__')
        else:
            runpy.run_module(tool, run_name='__main__')
        return capsys.readouterr().out

    return run


@pytest.fixture
def fails(start, capsys):
    def run(tool: str, *arguments: object) -> str:
        with pytest.raises(SystemExit) as left:
            start(tool, *arguments)
        return f'{left.value.code} {capsys.readouterr().err}'

    return run


def write_run(path: Path, layers: int = 2, errors: bool = False) -> Path:
    values = np.arange(1.0, 4.0)
    records = {name: values for name in ('call', 'mean', 'var', 'chi2', 'g', 'psi')}
    distances = {'call': values, 'mean': values, 'var': values} if errors else {'call': values[:0]}
    layer = LayerStatistics('BatchNorm2d', records, distances)
    write_statistics({f'conv{number}.bn': layer for number in range(layers)}, path)
    return path


@pytest.mark.slow
def test_record_and_draw(tmp_path, start):
    for method in ('bn', 'cbn', 'mabn'):
        options = ['--batch-size', 4, '--iterations', 12, '--reference', 8, '--interval', 5]
        printed = start(
            'experiments.record_statistics',
            '--method',
            method,
            *options,
            '--out',
            tmp_path / method / 'run.npz',
        )
        assert 'training loss, later half of the run: ' in printed
    layers = read_statistics(tmp_path / 'cbn/run.npz')
    assert len(layers) == 6
    assert layers['5.1'].records['call'].tolist() == list(range(1, 13))
    # k = 4 after a quarter of the run: the first call with earlier entries is the fifth.
    assert np.flatnonzero(np.isfinite(layers['5.1'].records['compensation'])).tolist() == list(range(4, 12))
    assert layers['5.1'].errors['call'].tolist() == [5, 10]
    runs = [f'{method} of 4={tmp_path / method}' for method in ('bn', 'cbn', 'mabn')]
    printed = start('plot_statistics.py', *runs, '--out', tmp_path / 'made/plots', '--layers', '5.*')
    names = ['5.1.png', '5.1_errors.png']
    lines = printed.splitlines()
    assert lines[:3] == ['1 of 6 layers: 5.1', *(str(tmp_path / 'made/plots' / name) for name in names)]
    assert [line.partition(' of 4 ')[0] for line in lines[4:]] == ['bn', 'cbn', 'mabn']
    assert lines[3].startswith('run ')
    for name in names:
        assert np.ptp(imread(tmp_path / 'made/plots' / name)) > 0


def test_many_layers_are_drawn_in_part():
    choose_layers = runpy.run_path(str(ROOT / 'tools/plot_statistics.py'))['choose_layers']
    names = [f'conv{number}.bn' for number in range(16)]
    for count, chosen in ((16, [0, 3, 6, 9, 12, 15]), (6, range(6)), (1, [0])):
        drawn, common = choose_layers({'run': dict.fromkeys(names[:count])}, None)
        assert drawn == [names[number] for number in chosen]
        assert common == names[:count]
    assert choose_layers({'run': dict.fromkeys(names)}, ['conv1?.*'])[0] == names[10:]


def test_layers_that_the_runs_share(tmp_path, start):
    short, long = write_run(tmp_path / 'a.npz', 1, errors=True), write_run(tmp_path / 'b.npz', 2)
    printed = start('plot_statistics.py', short, long, '--out', tmp_path)
    lines = printed.splitlines()
    assert lines[:2] == [str(tmp_path / name) for name in ('conv0.bn.png', 'conv0.bn_errors.png')]
    assert len(lines) == 5  # the table of one layer


def test_wrong_runs(tmp_path, fails):
    run, folder = write_run(tmp_path / 'run.npz'), tmp_path / 'folder'
    folder.mkdir()

    def message(*arguments: object) -> str:
        return fails('plot_statistics.py', *arguments, '--out', tmp_path / 'plots')

    assert f'error: {tmp_path / "none.npz"}: no such file' in message(tmp_path / 'none.npz')
    assert f'error: {folder} should have one .npz file below it, there is none' in message(folder)
    for name in ('1.npz', '2.npz'):
        shutil.copy(run, folder / name)
    assert f'there is {folder / "1.npz"}, {folder / "2.npz"}' in message(f'both={folder}')
    assert f"two runs are called 'run': name them, as in LABEL={run}" in message(run, run)
    assert "--layers: 'head.*' matches none of conv0.bn, conv1.bn" in message(run, '--layers', 'head.*')
    assert 'at most 4 runs can be told apart in one picture, got 5' in message(*[run] * 5)
    other = tmp_path / 'other.npz'
    np.savez(other, values=np.zeros(3))
    assert f'error: {other} is not a file of statistics' in message(other)
    shutil.copy(run, tmp_path / 'renamed.npz')
    write_statistics({'stem': LayerStatistics('BatchNorm2d', {}, {})}, tmp_path / 'stem.npz')
    assert 'the runs have no layer in common: conv0.bn, conv1.bn; stem' in message(run, tmp_path / 'stem.npz')
    assert not (tmp_path / 'plots').exists()


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['--method', 'gn', '--out', 'run.npz'], "invalid choice: 'gn'"),
        (['--method', 'bn', '--out', 'run.csv'], '--out run.csv: the name has to end in .npz'),
        (['--method', 'bn', '--iterations', '0', '--out', 'run.npz'], 'must be an integer >= 1'),
    ],
)
def test_wrong_recordings(arguments, words, fails):
    assert words in fails('experiments.record_statistics', *arguments)
