"""Writing files whole or not at all, and saying why one was not written."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Give a temporary name to write to, which becomes ``path`` when the block ends without an error.

    A full disk, or a process that is killed while it writes, leaves neither half a file nor one that has
    lost its former content.

    Args:
        path: The file; missing folders are made.

    Yields:
        A name in the same folder with the same ending.

    Raises:
        OSError: Of the block or of the renaming, with the name of the file; nothing of it is left.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'.{os.getpid()}.{path.name}')
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        if error.errno is not None:
            error.filename = str(path)  # not the temporary name, which is gone
        raise
    finally:
        partial.unlink(missing_ok=True)


def explain_file(error: OSError | RuntimeError, path: object = None) -> str:
    """Say which file was not written, why, and what to do.

    Args:
        error: Of the operating system; a RuntimeError is what ``torch.save`` makes of one.
        path: The file, where the error does not name it.
    """
    name = getattr(error, 'filename', None) or path or 'a file of this run'
    number = getattr(error, 'errno', None)
    if isinstance(error, RuntimeError) or number in DISK_FULL:
        reason = getattr(error, 'strerror', None) or 'the disk is full or fails'
        return f'cannot write {name}: {reason}; make room on the disk, or write to another one'
    if number in (errno.ENOTDIR, errno.EEXIST):
        return f'cannot make {name}: a file is in the place of a folder; give another path'
    if number == errno.EISDIR:
        return f'cannot write {name}: it is a folder; give the name of a file'
    return f'cannot use {name}: {getattr(error, "strerror", None) or error}; give another path'
