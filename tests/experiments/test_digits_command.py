"""The study from its command line: stopped, taken up again, and reported."""

import csv
import json
import os
import re
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.helpers.other_processes import alive, wait_until

ROOT = Path(__file__).parents[2]
TRIALS = 4 + 1  # of a setting, at least: four rates and a seed


def command(out, *arguments):
    program = [sys.executable, '-W', 'ignore', '-m', 'experiments.digits', '--out', str(out)]
    return {'args': [*program, *arguments], 'env': {**os.environ, 'PYTHONPATH': str(ROOT)}}


@pytest.mark.slow
@pytest.mark.parametrize('stop', ['kill', 'terminate'])
def test_a_stopped_study_goes_on(tmp_path, stop):
    """Killed between trials, it leaves whole results and no process; they are not run again."""
    tiny = ('--quick', '--images', '4', '--seeds', '1', '--workers', '2', '--methods', 'mabn')
    folder = tmp_path / 'trials'
    study = subprocess.Popen(**command(tmp_path, *tiny), stderr=subprocess.DEVNULL)
    wait_until(lambda: len(list(folder.glob('*.json'))) >= 2 or study.poll() is not None)
    assert study.poll() is None
    workers = psutil.Process(study.pid).children()
    getattr(study, stop)()
    study.wait(timeout=60)
    wait_until(lambda: not any(map(alive, workers)), 30)

    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert 2 <= len(before) < 2 * TRIALS
    for path in before:
        assert path.suffix == '.json'
        assert len(json.loads(path.read_text())['accuracy']) == 12
    if stop == 'kill':
        return  # the other one shows how it goes on

    run = subprocess.run(**command(tmp_path, *tiny), capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr[-3000:]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert re.search(rf'{len(before)}/\d+ ', run.stderr)  # where the progress bar begins

    with (tmp_path / 'trials.csv').open() as stream:
        rows = list(csv.DictReader(stream))
    assert {row['method'] for row in rows} == {'mabn'}
    settings = [('2', '4', '1'), ('32', '4', '1'), ('2', '8', '8'), ('32', '64', '1')]
    compared = [row for row in rows if row['split'] == 'test']
    assert [(row['batch_size'], row['images'], row['workers']) for row in compared] == settings
    assert len(rows) == len(list(folder.iterdir())) >= 4 * TRIALS
    first = compared[0]
    cell = f'{100 * float(first["accuracy"]):.1f}'
    assert re.search(rf'^MABN +\**{re.escape(cell)}', run.stdout, re.MULTILINE)
    assert re.search(rf'\| MABN +\| \**{re.escape(cell)}', (tmp_path / 'tables.md').read_text())
    for name in ('batch_size', 'batch_size_rates', 'workers', 'iterations', 'training_curves'):
        assert (tmp_path / f'{name}.png').stat().st_size > 10_000


def run_here(monkeypatch, *arguments):
    """Run the study in this process: starting one takes seconds."""
    monkeypatch.setattr(sys, 'argv', ['digits', *map(str, arguments)])
    handler = signal.getsignal(signal.SIGTERM)
    try:
        runpy.run_module('experiments.digits', run_name='__main__')
    finally:
        signal.signal(signal.SIGTERM, handler)


@pytest.mark.parametrize('text', ['0', '-1', 'many'])
def test_numbers_are_checked(monkeypatch, tmp_path, capsys, text):
    with pytest.raises(SystemExit):
        run_here(monkeypatch, '--out', tmp_path, f'--seeds={text}')
    assert f"argument --seeds: must be an integer >= 1, got '{text}'" in capsys.readouterr().err


def test_a_damaged_result_is_one_message(monkeypatch, tmp_path):
    damaged = tmp_path / 'trials' / 'bn_batch2_images4_rate0.001_validation_seed1000.json'
    damaged.parent.mkdir()
    damaged.write_text('{')
    with pytest.raises(
        SystemExit,
        match=r'error: .*bn_batch2_images4_rate0\.001_validation_seed1000\.json does not hold a result',
    ):
        run_here(monkeypatch, '--out', tmp_path, '--quick', '--images', 4)
    assert list(tmp_path.iterdir()) == [damaged.parent]


def test_batch_sizes_run_in_the_order_in_which_they_are_given(monkeypatch, tmp_path, capsys):
    run_here(
        monkeypatch,
        *('--out', tmp_path, '--quick', '--dry-run', '--methods', 'bn', 'gn', '--batch-sizes', '4', '2'),
    )
    rows = [line.split()[:2] for line in capsys.readouterr().out.splitlines()[1:]]
    assert rows[:2] == [['batch_size', '4'], ['batch_size', '2']]


def test_some_comparisons_run_alone(monkeypatch, tmp_path, capsys):
    run_here(
        monkeypatch,
        *('--out', tmp_path, '--dry-run', '--methods', 'bn', 'gn'),
        *('--comparisons', 'workers', 'iterations', '--batch-sizes', '2'),
    )
    rows = [line.split()[:2] for line in capsys.readouterr().out.splitlines()[1:]]
    assert rows == [['workers', '2'], ['iterations', '2']]


def test_nothing_to_compare_is_one_message(monkeypatch, tmp_path):
    with pytest.raises(
        SystemExit, match='error: nothing to compare with BN: --methods bn has none .* workers$'
    ):
        run_here(monkeypatch, '--out', tmp_path, '--methods', 'bn', '--comparisons', 'workers')
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_prints_the_plan_and_runs_nothing(monkeypatch, tmp_path, capsys):
    run_here(monkeypatch, '--out', tmp_path, '--quick', '--dry-run', '--methods', 'bn', 'cbn')
    heading, *rows = capsys.readouterr().out.splitlines()
    assert heading.split()[0] == 'comparison'
    assert [row.split()[:2] for row in rows] == [
        ['batch_size', '2'],
        ['batch_size', '32'],
        ['workers', '2'],
        ['iterations', '2'],
        ['iterations', '32'],
        ['window_size', '1'],
        ['window_size', '8'],
        ['burn_in', '0'],
        ['burn_in', '3'],
    ]
    assert list(tmp_path.iterdir()) == []


def test_a_report_of_nothing_is_one_message(monkeypatch, tmp_path):
    with pytest.raises(SystemExit, match='error: no column of a table is whole'):
        run_here(monkeypatch, '--out', tmp_path, '--report')
    assert list(tmp_path.iterdir()) == []


def test_methods_are_checked(monkeypatch, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run_here(monkeypatch, '--out', tmp_path, '--methods', 'bm')
    assert "argument --methods: invalid choice: 'bm'" in capsys.readouterr().err
