"""Writing files whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
