"""Running a part of the report in a process of its own, up to a time limit, and keeping what it got to."""

from __future__ import annotations

import json
import multiprocessing
import os
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmdet_cbn.whole_file import whole_file

from ..common.processes import end_with_parent

Keep = Callable[[dict[str, Any]], None]
LOG_LINES = 30


class MissingError(Exception):
    """A part cannot run here; the message says what is missing."""


@dataclass(frozen=True)
class Options:
    """What the command line asks of all parts.

    Args:
        device: 'cuda' or 'cpu'.
        quick: Sizes that show the form of the report, and times that mean nothing.
    """

    device: str
    quick: bool


@dataclass(frozen=True)
class Part:
    """One part of the report.

    Args:
        name: In the record.
        title: Its heading.
        seconds: How long it may take.
        run: A function of a module. It calls ``keep`` with all it has so far, as JSON knows it, and returns
            what else is to be said of it, or None.
    """

    name: str
    title: str
    seconds: int
    run: Callable[[Options, Keep], str | None]


def run_part(part: Part, options: Options, limit: float) -> dict[str, Any]:
    """Run a part for at most ``limit`` seconds.

    Returns:
        ``status``: 'finished', 'out of time', 'could not run' or 'failed'; ``seconds``; ``reason``, or None;
        ``log``, the last lines of what it printed, where it was out of time or failed; ``data``, the last
        that it kept, or None.
    """
    start = time.monotonic()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        # Not forked: CUDA would not work. In a process of its own, since an error on a GPU is final for one.
        process = multiprocessing.get_context('spawn').Process(
            target=_work, args=(part, options, Path(folder))
        )
        process.start()
        try:
            process.join(limit)
            late = process.is_alive()
        finally:
            _end(process)
        outcome = _read(Path(folder) / 'outcome.json')
        if late:
            outcome = {'status': 'out of time', 'reason': f'stopped after {limit:.0f} seconds'}
        elif outcome is None:
            outcome = {'status': 'failed', 'reason': f'its process ended with {process.exitcode}'}
        outcome['seconds'] = round(time.monotonic() - start, 1)
        if outcome['status'] in ('out of time', 'failed'):
            log = Path(folder) / 'log'
            text = log.read_text(errors='replace') if log.exists() else ''
            outcome['log'] = text.splitlines()[-LOG_LINES:]
        return outcome | {'data': _read(Path(folder) / 'data.json')}


def _end(process: multiprocessing.process.BaseProcess) -> None:
    process.terminate()
    process.join(5)
    process.kill()
    process.join()


def _read(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text()) if path.exists() else None


def _work(part: Part, options: Options, folder: Path) -> None:
    """Run a part, in its process."""
    end_with_parent()
    tempfile.tempdir = str(folder)  # what a part that is stopped leaves goes with it
    with (folder / 'log').open('w', buffering=1) as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
    try:
        reason = part.run(options, lambda data: _write(folder / 'data.json', data))
        outcome = {'status': 'finished', 'reason': reason}
    except MissingError as error:
        outcome = {'status': 'could not run', 'reason': str(error)}
    except Exception as error:
        traceback.print_exc()
        outcome = {'status': 'failed', 'reason': one_line(error)}
    _write(folder / 'outcome.json', outcome)


def _write(path: Path, data: dict[str, Any]) -> None:
    with whole_file(path) as partial:
        partial.write_text(json.dumps(data))


def one_line(error: BaseException) -> str:
    """Return the type of an error and the first line of what it says."""
    first, *_ = str(error).splitlines() or ['']
    return f'{type(error).__name__}: {first}'
