"""Ending a run that cannot start or go on: one message, printed once, no traceback."""

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from .explanations import explain


class LaunchError(RuntimeError):
    """A run that cannot start as it was asked for; the message says what to do."""


def is_first_process() -> bool:
    """Tell whether this is the first process of its machine, the one that checks and speaks."""
    return os.environ.get('LOCAL_RANK', os.environ.get('SLURM_LOCALID', '0')) == '0'


def leave(message: object) -> NoReturn:
    """Print a message and exit with status 1; processes other than the machine's first wait before.

    Args:
        message: What went wrong, an error or its text.

    Raises:
        SystemExit: Always.
    """
    if not is_first_process():
        # The launcher ends all processes at the first exit, so what all of them would say is said once;
        # what happened to this one alone is said all the same.
        time.sleep(3)
    sys.exit(f'{os.path.basename(sys.argv[0])}: {message}')


def warn_user(message: str) -> None:
    """Print one line about something that does not stop the run."""
    if is_first_process():
        print(f'{os.path.basename(sys.argv[0])}: warning: {message}', file=sys.stderr)


@contextmanager
def one_message() -> Iterator[None]:
    """Let what the user can repair end in one message; any other error keeps its traceback.

    Raises:
        SystemExit: After a :class:`LaunchError`, or an error that :func:`explain` knows.
    """
    logging.raiseExceptions = False  # on a full disk, logging would print a traceback for every line
    try:
        yield
    except LaunchError as error:
        leave(error)
    except Exception as error:
        message = explain(error)
        if message is None:
            raise
        leave(message)
