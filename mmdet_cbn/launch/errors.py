"""Ending a run that cannot start: one message, printed once, no traceback."""

import os
import sys
import time
from typing import NoReturn


class LaunchError(RuntimeError):
    """A run that cannot start as it was asked for; the message says what to do."""


def leave(error: LaunchError) -> NoReturn:
    """Print the message of an error on the first process of each machine, and exit with status 1.

    Args:
        error: What went wrong.

    Raises:
        SystemExit: Always.
    """
    if os.environ.get('LOCAL_RANK', os.environ.get('SLURM_LOCALID', '0')) == '0':
        sys.exit(f'{os.path.basename(sys.argv[0])}: {error}')
    time.sleep(3)  # the launcher ends all processes at the first exit, so the one that prints goes first
    sys.exit(1)
