"""Running the trials that have no result yet, several at a time."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import torch

from ..common.processes import end_with_parent
from ..common.results import read_result, write_result
from .trials import Trial, run_trial


def missing_trials(trials: Sequence[Trial], folder: Path) -> list[Trial]:
    """Return the trials without a result in ``folder``.

    Raises:
        StudyError: A file there cannot be read, or holds the result of other settings.
    """
    return [trial for trial in trials if read_result(folder, trial) is None]


def run_trials(trials: Sequence[Trial], folder: Path, workers: int, device: str = 'cpu') -> Iterator[Trial]:
    """Run trials in processes of one thread each, and yield each one once its result is written.

    Where the caller is stopped, so are the processes: trials under way leave nothing behind.

    Args:
        trials: What to run.
        folder: Where the results go.
        workers: Number of processes.
        device: Where they train; on a GPU they share it.
    """
    # Not forked: a copy of this process would have its threads' locks, but not the threads.
    context = multiprocessing.get_context('spawn')
    others = multiprocessing.active_children()
    with ProcessPoolExecutor(workers, context, _start_worker) as pool:
        running = {pool.submit(_run_and_write, trial, folder, device): trial for trial in trials}
        try:
            for future in as_completed(running):
                future.result()
                yield running[future]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(multiprocessing.active_children()).difference(others):
                process.terminate()
            raise


def _run_and_write(trial: Trial, folder: Path, device: str) -> None:
    write_result(folder, trial, run_trial(trial, device))


def _start_worker() -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    end_with_parent()  # or it would wait for work forever
