"""Programs run in forks of a process that has imported everything once: seconds become tenths."""

import multiprocessing
import os
import resource
import runpy
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIMIT = 30  # seconds of a processor, so that a busy machine fails no test
HANGS = 240.0  # seconds

_context = multiprocessing.get_context('forkserver')
_context.set_forkserver_preload(
    [
        '__main__',
        'mmdet.models',
        'mmdet.datasets',
        'mmdet.evaluation',
        'mmdet_cbn.launch',
        'matplotlib.figure',
    ]
)


@dataclass(frozen=True)
class Result:
    """What a program printed, and its exit status."""

    status: int
    stdout: str
    stderr: str


def run(
    program: str,
    arguments: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    prepare: Callable[[], None] | None = None,
) -> Result:
    """Run a Python program of the checkout, or a module of the package, in a fork.

    Args:
        program: A path from the root of the checkout, or the name of a module.
        arguments: Of the command line.
        folder: Where it runs.
        environment: Variables to set; CUDA is out of sight.
        prepare: Called in the fork before.

    Raises:
        TimeoutError: It hung; it was ended. (One that computes for too long is ended by a signal.)
    """
    logs = [folder.with_name(f'{folder.name}.{name}') for name in ('stdout', 'stderr')]
    process = _context.Process(target=_run, args=(program, arguments, folder, environment, prepare, logs))
    process.start()
    process.join(HANGS)
    if process.is_alive():
        process.kill()
        process.join()
        raise TimeoutError(f'{program} ran for more than {HANGS} seconds:\n{logs[1].read_text()}')
    return Result(process.exitcode, *(log.read_text() for log in logs))


def _run(
    program: str,
    arguments: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    prepare: Callable[[], None] | None,
    logs: list[Path],
) -> None:
    for descriptor, log in zip((1, 2), logs, strict=True):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    sys.stdout = os.fdopen(1, 'w', buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, 'w', buffering=1, closefd=False)
    resource.setrlimit(resource.RLIMIT_CPU, (LIMIT, LIMIT))
    os.chdir(folder)
    os.environ.update({'CUDA_VISIBLE_DEVICES': '-1', 'OMP_NUM_THREADS': '1', **environment})
    if prepare:
        prepare()
    sys.argv = [program, *arguments]
    status = 0
    try:
        if program.endswith('.py'):
            runpy.run_path(str(ROOT / program), run_name='__main__')
        else:
            runpy.run_module(program, run_name='__main__', alter_sys=True)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
