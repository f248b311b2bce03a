"""Having MMEngine load checkpoints without executing them, or else say which one it cannot load."""

from functools import partial
from typing import Any

import torch
from mmengine.runner.checkpoint import CheckpointLoader

from ..checkpoints import CheckpointError, UnsupportedValueError
from ..checkpoints.restricted import RefusedGlobalError, load_restricted

_load_checkpoint = CheckpointLoader.load_checkpoint


def restrict_loading(trusted: bool = False) -> None:
    """Have MMEngine read every checkpoint by :func:`load_restricted` from here on.

    ``load_from``, ``resume``, pre-trained parts (``init_cfg``) and what has an address (``https://``,
    ``torchvision://``) all go through its ``CheckpointLoader``, which hands them to ``torch.load``: without
    restrictions (0.10.7), or with ``getattr`` admitted, and without restrictions where that fails (0.10.12).

    Args:
        trusted: Whether to leave ``torch.load`` as it is; a dead address is named in one error all the same.
    """
    CheckpointLoader.load_checkpoint = partial(_load, trusted)


def _load(trusted: bool, filename: str, map_location: Any = None, logger: Any = 'current') -> Any:
    load = torch.load
    if not trusted:
        torch.load = lambda file, map_location=None, **_: load_restricted(file, map_location)
    try:
        return _load_checkpoint(filename, map_location, logger)
    except RefusedGlobalError as error:
        raise UnsupportedValueError(f'{filename}: {error}') from None
    except Exception as error:  # of the network, or of whatever an address brings
        if '://' not in filename:
            raise
        raise CheckpointError(
            f'cannot load {filename} ({type(error).__name__}: {error}); check the address and the network, '
            'or download the checkpoint and name the file'
        ) from error
    finally:
        torch.load = load
