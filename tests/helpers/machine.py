"""A machine as a program may find it; each of these is called in the program's process before it starts."""

import os
import resource
import socket
import sys
from pathlib import Path

import torch


def limit_files() -> None:
    """A disk with room for logs of 100 kB, not for a checkpoint."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))


def fake_two_gpus() -> None:
    torch.cuda.is_available = lambda: True
    torch.cuda.device_count = lambda: 2


def take_port() -> None:
    """Hold a port, and name it to the program."""
    global _taken
    _taken = socket.create_server(('127.0.0.1', 0))
    os.environ['MASTER_PORT'] = str(_taken.getsockname()[1])


def import_from_here() -> None:
    """Let the config import modules of the folder, as PYTHONPATH would."""
    sys.path.insert(0, os.getcwd())


def become_nobody() -> None:
    """Lose the rights of root, to whom no file is unreadable; what else the test made stays usable."""
    if os.getuid():
        return
    for path in [Path.cwd(), *Path.cwd().rglob('*')]:
        if path.stat().st_mode & 0o700:
            path.chmod(0o777)
    for path in Path.cwd().parents:
        if 'pytest-of-' in str(path):
            path.chmod(path.stat().st_mode | 0o055)
    os.setuid(65534)
