"""The command line of tools/correction.py."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


def start(*arguments):
    return subprocess.run(
        [sys.executable, '-W', 'ignore', str(ROOT / 'tools/correction.py'), *map(str, arguments)],
        env={**os.environ, 'PYTHONPATH': str(ROOT), 'CUDA_VISIBLE_DEVICES': '-1', 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.slow
def test_two_learning_rates(tmp_path):
    path, plot = tmp_path / 'made/errors.json', tmp_path / 'made/errors.png'
    options = ['--window-size', 3, '--iterations', 40, '--probes', 4, '--json', path, '--plot', plot]
    result = start('--lr', 0.001, 0.02, *options)
    assert result.returncode == 0, result.stderr
    written = json.loads(path.read_text())
    assert written['estimates'] == ['none', 'linear', 'quadratic']
    slow, fast = (written['runs'][name] for name in ('lr 0.001', 'lr 0.02'))
    assert slow['iterations'] == [10, 20, 30, 40]
    assert slow['lags'] == [1, 2]
    assert np.shape(slow['mean']) == (4, 2, 6, 3)
    assert np.mean(slow['mean']) < np.mean(fast['mean'])
    assert plot.stat().st_size > 0
    rows = [line.split() for line in result.stdout.splitlines()]
    assert [row[:2] for row in rows if row[0] in ('0.001', '0.02')] == [
        ['0.001', '1'],
        ['0.001', '2'],
        ['0.02', '1'],
        ['0.02', '2'],
    ]


def test_what_is_there_is_not_measured_again(tmp_path, monkeypatch, capsys):
    path = tmp_path / 'errors.json'
    options = ['--window-size', '2', '--iterations', '4', '--probes', '1', '--json', str(path)]

    def run(*more):
        monkeypatch.setattr(sys, 'argv', ['correction.py', *options, *more])
        runpy.run_path(str(ROOT / 'tools/correction.py'), run_name='__main__')
        return capsys.readouterr().out

    run('--lr', '0.001')
    written = json.loads(path.read_text())
    written['runs']['lr 0.001']['losses'] = [7.25] * 4  # as no run has them
    path.write_text(json.dumps(written))
    assert 'later half of the run: 7.25' in run('--lr', '0.001', '0.01')
    assert list(json.loads(path.read_text())['runs']) == ['lr 0.001', 'lr 0.01']
    with pytest.raises(SystemExit, match=r"errors\.json is of other settings, \{'batch_size': 2"):
        run('--batch-size', '3')
    path.write_text('{}')
    with pytest.raises(SystemExit, match=r'errors\.json holds no result of this program .*; delete it'):
        run('--lr', '0.001')


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['--lr', '0'], 'argument --lr: 0 is not above 0'),
        (['--lr', *'12345'], 'at most 4 learning rates fit into a picture, got 5'),
        (['--window-size', '1'], 'a window of 1 has no earlier iterations'),
        (['--iterations', '100'], '25 probes with windows of 8 need at least 208'),
        (['--probes', '0'], 'are at least 1'),
        (['--plot', 'errors.pdf'], '--plot errors.pdf: the name has to end in .png'),
    ],
)
def test_wrong_command_lines(arguments, words, monkeypatch, capsys):
    """In this process, since each start of another imports torch."""
    monkeypatch.setattr(sys, 'argv', ['correction.py', *arguments])
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(ROOT / 'tools/correction.py'), run_name='__main__')
    assert words in f'{left.value.code} {capsys.readouterr().err}'
