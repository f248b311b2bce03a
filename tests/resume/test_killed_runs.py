"""Runs that are killed at any moment and resumed equal the run that was not, bit for bit."""

import random
import signal
import time
from pathlib import Path

import pytest
import torch

from tests.helpers.detectors import retinanet
from tests.helpers.processes import finish, start
from tests.helpers.resumable_training import BRN, MABN, MIXED, train
from tests.helpers.snapshot import assert_same

pytestmark = pytest.mark.slow

ITERATIONS = 16
REGIMES = {
    'CBN, MABN and BRN with save_window': (MIXED, {'save_window': True}, 1),
    'the same in two processes': (MIXED, {'save_window': True}, 2),
    'MABN and BRN by default': (retinanet(MABN, MABN, BRN), {}, 1),
}


def notes(work_dir: Path, rank: int = 0) -> list[tuple[int, str, float]]:
    """Return iteration, loss and time of all iterations, those before and after a kill."""
    path = work_dir / f'losses_{rank}.txt'
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    whole = [line.split() for line in lines if line.endswith('\n')]
    return [(int(iteration), loss, float(clock)) for iteration, loss, clock in whole]


def losses(work_dir: Path, rank: int) -> dict[int, set[str]]:
    found = {}
    for iteration, loss, _ in notes(work_dir, rank):
        found.setdefault(iteration, set()).add(loss)
    return found


def kill_at(started: list, work_dir: Path, iteration: int, delay: float) -> bool:
    """Kill all processes ``delay`` seconds after the first has done an iteration; tell if they still ran."""
    end = time.monotonic() + 60
    while not any(note[0] == iteration for note in notes(work_dir)):
        assert time.monotonic() < end
        assert not any(process.exitcode for process in started)
        time.sleep(0.002)
    time.sleep(delay)
    for process in started:
        process.kill()
    return set(finish(started)) == {-signal.SIGKILL}


def last_checkpoint(work_dir: Path) -> str | None:
    """Name the checkpoint where MMEngine was killed between emptying ``last_checkpoint`` and writing it."""
    note = work_dir / 'last_checkpoint'
    if not note.exists() or note.read_text():
        return None
    return str(max(work_dir.glob('iter_*.pth'), key=lambda path: path.stat().st_mtime_ns))


def assert_equal_runs(found: Path, expected: Path, processes: int) -> None:
    for rank in range(processes):
        reference = losses(expected, rank)
        assert len(reference) == ITERATIONS
        assert losses(found, rank) == reference
        assert_same(*(torch.load(folder / f'end_{rank}.pt') for folder in (found, expected)))


@pytest.mark.parametrize('regime', REGIMES)
def test_killed_and_resumed_five_times(images, tmp_path, regime):
    model, options, processes = REGIMES[regime]
    hook = {'type': 'CrossIterationHook', **options}
    whole, killed = tmp_path / 'whole', tmp_path / 'killed'
    for folder in (whole, killed):
        folder.mkdir()

    def begin(work_dir):
        arguments = (images, work_dir, model, hook, last_checkpoint(work_dir))
        return start(train, *arguments, processes=processes)

    assert finish(begin(whole)) == [0] * processes
    step = (notes(whole)[-1][2] - notes(whole)[0][2]) / (ITERATIONS - 1)

    moments = random.Random(regime)
    kills = [
        kill_at(begin(killed), killed, iteration, moments.random() * step)
        for iteration in sorted(moments.sample(range(2, ITERATIONS - 2), 5))
    ]
    assert sum(kills) >= 4  # on a busy machine the last one may come too late
    assert finish(begin(killed)) == [0] * processes
    assert_equal_runs(killed, whole, processes)
    if processes == 2:
        data = [losses(whole, rank) for rank in range(2)]
        assert data[0] != data[1]
