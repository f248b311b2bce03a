"""Writing files whole or not at all, and saying why one was not written."""

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Give a temporary name to write to, which becomes ``path`` when the block ends without an error.

    A full disk, or a process that is killed while it writes, leaves neither half a file nor one that has
    lost its former content. Links are followed, and a file that is there keeps its mode. A pipe or a terminal
    gets the content when it is whole; other devices and sockets are refused.

    Args:
        path: The file; missing folders are made.

    Yields:
        A name with the same ending, in the same folder unless ``path`` is no file.

    Raises:
        OSError: Of the block or of the renaming, with the name of the file; nothing of it is left.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = _mode(path)
        if mode is not None and not stat.S_ISREG(mode):
            with _streamed(path, mode) as partial:
                yield partial
            return
        target = Path(os.path.realpath(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f'.{os.getpid()}.{target.name}')
        try:
            yield partial
            if mode is not None:
                partial.chmod(stat.S_IMODE(mode))
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        if error.errno is not None:
            error.filename = str(path)  # not the temporary name, which is gone
        raise


def _mode(path: Path) -> int | None:
    """Return what ``path`` is, behind links, and who may use it; None where there is nothing."""
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return None


@contextmanager
def _streamed(path: Path, mode: int) -> Iterator[Path]:
    """Give a temporary name whose content goes into a pipe or a terminal at the end."""
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISFIFO(mode) and not stat.S_ISCHR(mode):
        raise OSError(errno.EINVAL, 'it is neither a file nor a pipe', str(path))
    with tempfile.TemporaryDirectory() as folder:
        partial = Path(folder, path.name)
        yield partial
        # A pipe that nobody reads would wait for ever.
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
        os.set_blocking(descriptor, True)
        with partial.open('rb') as content, open(descriptor, 'wb') as stream:
            shutil.copyfileobj(content, stream)


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
    if number == errno.ENXIO:
        return f'cannot write {name}: it is a pipe that nobody reads; give the name of a file'
    return f'cannot use {name}: {getattr(error, "strerror", None) or error}; give another path'
