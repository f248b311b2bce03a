"""Checkpoints and predictions that are written whole or not at all."""

import os
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend


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
        path = Path(filepath)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f'.{path.name}.{os.getpid()}')
        try:
            partial.write_bytes(obj)
            partial.replace(path)
        except OSError as error:
            error.filename = str(path)  # not the temporary name, which is gone
            raise
        finally:
            partial.unlink(missing_ok=True)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Write text likewise."""
        self.put(obj.encode(encoding), filepath)


def write_whole_files() -> None:
    """Have MMEngine write its files through :class:`WholeFileBackend` from here on."""
    register_backend('local', WholeFileBackend, force=True, prefixes='')
