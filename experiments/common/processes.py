"""Processes that work for another one."""

import multiprocessing
import os
import threading
from multiprocessing.connection import wait


def end_with_parent() -> None:
    """Let this process, which :mod:`multiprocessing` started, end when its parent was killed."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    wait([multiprocessing.parent_process().sentinel])
    os._exit(1)
