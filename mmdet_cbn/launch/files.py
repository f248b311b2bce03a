"""What a run writes: into a folder that can be made, each file whole or not at all."""

import os
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from ..whole_file import whole_file
from .errors import LaunchError

_LONGEST_NAME = 255  # bytes, on nearly any file system


def check_work_dir(work_dir: str) -> None:
    """Check that the work folder is there or can be made.

    Raises:
        LaunchError: A file is in its place, or it cannot be written.
    """
    there = Path(work_dir).absolute()
    longest = max(len(os.fsencode(part)) for part in there.parts)
    if longest > _LONGEST_NAME:
        raise LaunchError(
            f'--work-dir {work_dir[:40]}...: a name of {longest} bytes is too long; give a shorter one'
        )
    while not os.path.exists(there):
        if there.is_symlink():
            raise LaunchError(f'--work-dir {work_dir}: {there} is a broken link; give another folder')
        there = there.parent
    if not there.is_dir():
        raise LaunchError(f'--work-dir {work_dir}: {there} is a file; give the name of a folder')
    if not os.access(there, os.W_OK | os.X_OK):
        raise LaunchError(f'--work-dir {work_dir}: {there} may not be written to; give another folder')


class WholeFileBackend(LocalBackend):
    """MMEngine's local files, written under a temporary name and renamed when whole.

    A full disk, or a process that is killed while it saves, leaves neither half a checkpoint nor a
    checkpoint that has lost its former content.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes; missing folders are made.

        Raises:
            OSError: With the name of the file; nothing of it is left.
        """
        with whole_file(filepath) as partial:
            partial.write_bytes(obj)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Write text likewise."""
        self.put(obj.encode(encoding), filepath)


def write_whole_files() -> None:
    """Have MMEngine write its files through :class:`WholeFileBackend` from here on."""
    register_backend('local', WholeFileBackend, force=True, prefixes='')
