"""Running trials, several at a time, as they come to be known."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path

import torch

from ..common.processes import end_with_parent
from ..common.results import Result, read_result, write_result
from .trials import Trial, run_trial


class Results:
    """The results in a folder, each read once.

    Args:
        folder: Where they are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[Trial, Result] = {}

    def read(self, trial: Trial) -> Result | None:
        """Return the result of a trial, None where there is none yet.

        Raises:
            StudyError: Its file cannot be read, or holds the result of other settings.
        """
        if trial not in self._read:
            result = read_result(self.folder, trial)
            if result is None:
                return None
            self._read[trial] = result
        return self._read[trial]


def run_trials(
    missing: Callable[[], Iterable[Trial]], folder: Path, workers: int, device: str = 'cpu'
) -> Iterator[Trial]:
    """Run trials in processes of one thread each, and yield each one once its result is written.

    Where the caller is stopped, so are the processes: trials under way leave nothing behind.

    Args:
        missing: Returns the trials without a result that are known by now, in their order. It is asked
            whenever a process is free.
        folder: Where the results go.
        workers: Number of processes.
        device: Where they train; on a GPU they share it.
    """
    # Not forked: a copy of this process would have its threads' locks, but not the threads.
    context = multiprocessing.get_context('spawn')
    before = multiprocessing.active_children()
    with ProcessPoolExecutor(workers, context, _start_worker) as pool:
        running: dict[Future[None], Trial] = {}
        try:
            while True:
                for trial in missing():
                    if len(running) == workers:
                        break
                    if trial not in running.values():
                        running[pool.submit(_run_and_write, trial, folder, device)] = trial
                if not running:
                    return
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    trial = running.pop(future)
                    future.result()
                    yield trial
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(multiprocessing.active_children()).difference(before):
                process.terminate()
            raise


def _run_and_write(trial: Trial, folder: Path, device: str) -> None:
    write_result(folder, trial, run_trial(trial, device))


def _start_worker() -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # a network that died at a large rate is up to 50 times slower with them
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    end_with_parent()  # or it would wait for work forever
