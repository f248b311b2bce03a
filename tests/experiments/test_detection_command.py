"""The detection study from its command line: stopped, taken up again, and reported."""

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

pytest.importorskip('mmdet')

from experiments.common.results import write_result
from experiments.detection.regimes import REGIMES
from experiments.detection.trials import DetectionRun

ROOT = Path(__file__).parents[2]
TINY = (
    '--regimes scratch --methods cbn-window-gradient --batch-sizes 1 --seeds 1 --epochs 1 --train-images 8 '
    '--pretraining-images 1 --held-out 4'
)
CHOSEN = DetectionRun('cbn-window-gradient', 1, 0, 0.001, 'scratch', 1, train_images=8, held_out=4)


def choose_the_rate(out):
    """Leave what the runs that choose the learning rate would: without them the study is one run."""
    aps = [f'{kind}{name}_ap' for kind in ('', 'slow_', 'population_') for name in ('box', 'mask')]
    for run in REGIMES['scratch'].search.tuning_trials(CHOSEN, {}.get):
        reached = {name: [0.5 if run.rate == CHOSEN.rate else 0.25] for name in aps}
        rest = {'training_loss': [1.0], 'diverged': None, 'seconds': 1.0, 'torch': '2'}
        write_result(out / 'results', run, reached | rest)


def command(out):
    program = [sys.executable, '-W', 'ignore', '-m', 'experiments.detection']
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'CUDA_VISIBLE_DEVICES': '-1'}
    return {'args': [*program, '--out', str(out), *TINY.split()], 'env': environment, 'text': True}


def run_here(monkeypatch, out, *arguments):
    """Run the study in this process: starting one takes seconds."""
    monkeypatch.setattr(sys, 'argv', ['detection', '--out', str(out), *TINY.split(), *arguments])
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        runpy.run_module('experiments.detection', run_name='__main__')
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@pytest.mark.slow
def test_a_stopped_study_goes_on(tmp_path, monkeypatch, capsys):
    """Interrupted in a run, it leaves no process and no result; that run starts again, and only once."""
    choose_the_rate(tmp_path)
    run_dir = tmp_path / 'runs' / CHOSEN.name
    study = subprocess.Popen(
        **command(tmp_path),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        # What a shell starts in the background ignores Ctrl-C, and hands that down.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        # MMEngine's folder of logs is there: the processes of the run are at work.
        wait_until(lambda: any(run_dir.glob('*/vis_data')) or study.poll() is not None)
        assert study.poll() is None, study.stderr.read()[-3000:]
        children = psutil.Process(study.pid).children(recursive=True)
        assert len(children) >= 3  # torchrun and its processes
        study.send_signal(signal.SIGINT)
        _, said = study.communicate(timeout=100)
    finally:
        study.terminate()
    assert study.returncode == 1
    assert 'stopped; the same command goes on' in said
    assert 'Traceback' not in said
    wait_until(lambda: not any(map(alive, children)), 10)
    path = tmp_path / 'results' / f'{CHOSEN.name}.json'
    assert not path.exists()
    with pytest.raises(SystemExit, match='error: no column of a table is whole in '):
        run_here(monkeypatch, tmp_path, '--report')

    stale = run_dir / 'stale'
    stale.touch()
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '-1')
    run_here(monkeypatch, tmp_path)
    table = capsys.readouterr().out
    assert not stale.exists()
    assert not list(run_dir.rglob('*.pth'))
    log = (run_dir / 'output.log').read_text()
    assert 'CrossIterationHook: paired ' in log
    found = json.loads(path.read_text())
    assert 0 < found['training_loss'][0] < 10
    box, mask = (100 * found[f'population_{name}_ap'][0] for name in ('box', 'mask'))
    for ap in (box, mask):
        assert re.search(rf'CBN, window_gradient +\*\*{ap:.1f}\*\*$', table, re.MULTILINE)  # the best of one
    assert 'CBN, window_gradient' in (tmp_path / 'tables.md').read_text()
    assert len((tmp_path / 'runs.csv').read_text().splitlines()) == 1 + 4 + 1
    assert (tmp_path / 'scratch.png').exists()
    assert (tmp_path / 'scratch_rates.png').exists()

    written = path.stat().st_mtime_ns
    run_here(monkeypatch, tmp_path)
    assert capsys.readouterr().out == table
    assert path.stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('--seeds', '0'), "argument --seeds: must be an integer >= 1, got '0'"),
        (('--methods', 'ln'), "argument --methods: invalid choice: 'ln'"),
    ],
)
def test_options_are_checked(tmp_path, monkeypatch, capsys, arguments, message):
    with pytest.raises(SystemExit):
        run_here(monkeypatch, tmp_path, *arguments)
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
