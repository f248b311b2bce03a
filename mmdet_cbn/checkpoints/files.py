"""Reading checkpoints that come from elsewhere, and writing them whole or not at all."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from ..whole_file import whole_file
from .restricted import RefusedGlobalError, load_restricted


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be fetched, read or converted; the message says what to do."""


class UnsupportedValueError(CheckpointError):
    """A checkpoint of more than tensors and plain values, which cannot be read without executing it."""


def read_checkpoint(path: str | Path, name: str | None = None, trusted: bool = False) -> dict[str, Any]:
    """Read a checkpoint without executing anything that it contains: see :func:`.load_restricted`.

    Args:
        path: A file written by ``torch.save`` of any version.
        name: What messages call the file; its path when None.
        trusted: Whether to execute what it contains all the same.

    Returns:
        What was saved, tensors on the CPU.

    Raises:
        UnsupportedValueError: The file holds objects other than tensors and plain values.
        CheckpointError: It is missing, empty, a web page, damaged or cut short.
    """
    path = Path(path)
    name = name or str(path)
    if not path.is_file():
        raise CheckpointError(f'{name}: there is no such file')
    with path.open('rb') as file:
        start = file.read(64)
    if not start:
        raise CheckpointError(f'{name} is empty; download it again')
    if start.lstrip(b'\xef\xbb\xbf \t\r\n').startswith(b'<'):
        raise CheckpointError(
            f'{name} is a web page, not a checkpoint (file hosts send one when a file has been '
            'downloaded too often); try again later, or fetch the file with a browser'
        )
    try:
        if trusted:
            checkpoint = torch.load(path, map_location='cpu', weights_only=False)
        else:
            checkpoint = load_restricted(path, map_location='cpu')
    except RefusedGlobalError as error:
        raise UnsupportedValueError(
            f'{name} is not a whole checkpoint of tensors and plain values: {error.found} is in it, and to '
            'read that would execute code of the file'
        ) from None
    except Exception as error:  # a damaged pickle raises nearly anything
        reason = str(error).strip().split('\n')[0]
        raise CheckpointError(
            f'{name} is not a whole checkpoint of tensors and plain values; download it again '
            f'({type(error).__name__}: {reason})'
        ) from error
    if not isinstance(checkpoint, dict):
        raise CheckpointError(f'{name} holds a {type(checkpoint).__name__}; a checkpoint is a dictionary')
    return checkpoint


def write_checkpoint(checkpoint: dict[str, Any], path: str | Path) -> None:
    """Write a checkpoint under a temporary name, and rename it when it is whole.

    Args:
        checkpoint: What to save.
        path: Where to; missing folders are made, an existing file is replaced.

    Raises:
        OSError: The file cannot be written; nothing of it is left.
    """
    content = BytesIO()  # torch reports a full disk as a RuntimeError without the file's name
    torch.save(checkpoint, content)
    with whole_file(path) as partial:
        partial.write_bytes(content.getbuffer())
