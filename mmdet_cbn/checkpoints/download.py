"""Fetching the released checkpoints from Google Drive."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import gdown
import requests
from gdown.exceptions import DownloadError

from .catalogue import ReleasedModel
from .files import CheckpointError, read_checkpoint

DRIVE = 'https://drive.google.com/uc?id={file_id}'
TIMEOUT = 60.0  # seconds without a byte


def download_checkpoint(model: ReleasedModel, folder: str | Path, url: str = DRIVE) -> Path:
    """Download a released checkpoint, with a progress bar, unless it is there already.

    The file gets its name once it is whole and was read as a checkpoint; a link of that name is followed.

    Args:
        model: An entry of the catalogue.
        folder: Where to put the file; made if need be.
        url: Address to fetch from, ``{file_id}`` standing for the model's Google Drive id.

    Returns:
        The path of the file.

    Raises:
        CheckpointError: There is no connection, the file is not to be had without a browser, or
            what came is not a whole checkpoint; nothing is left in ``folder``.
        OSError: The file cannot be written.
    """
    folder = Path(folder)
    target = folder / model.filename
    if target.exists():
        return target
    by_hand = (
        f'Fetch it from {model.page} with a browser and save it as {target}. If it is not to be had there '
        f'(quota, moved), try {model.elsewhere}. Its size and hash were not published; a file that is not '
        'whole, or not this model, is refused when it is converted'
    )
    if model.file_id is None:
        raise CheckpointError(f'{model.name} cannot be downloaded by a program. {by_hand}')
    end_of_links = Path(os.path.realpath(target))
    end_of_links.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=end_of_links.parent, prefix=f'.{model.name}-') as scratch:
        partial = Path(scratch) / target.name
        address = url.format(file_id=model.file_id)
        try:
            gdown.download(address, output=str(partial), use_cookies=False, timeout=TIMEOUT)
            read_checkpoint(partial, name=address)
        except requests.ConnectionError as error:
            raise CheckpointError(f'no network connection to {address}. {by_hand}') from error
        except (CheckpointError, DownloadError, requests.RequestException) as error:
            raise CheckpointError(f'{error}. {by_hand}') from error
        partial.replace(end_of_links)
    return target
