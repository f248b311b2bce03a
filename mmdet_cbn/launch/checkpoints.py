"""Checks of the checkpoints that a run starts from."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import find_latest_checkpoint
from torch import Tensor, nn

from ..checkpoints import CheckpointError, UnsupportedValueError, read_checkpoint
from .config_walk import mappings
from .errors import LaunchError, warn_user
from .explanations import TRUST_REMEDY, last_line


def check_checkpoints(cfg: Config, model: nn.Module, training: bool, trusted: bool = False) -> None:
    """Check that the checkpoints of a config are whole, and belong to its model.

    A model that is tested or resumed must find all its weights; one that is fine-tuned
    (``load_from``) some of them. For training, pre-trained weights of a part (``init_cfg``) must be whole.
    What has an address (``https://``, ``torchvision://``) is left unchecked.

    Args:
        cfg: A whole config.
        model: What :func:`check_model` built; its weights may be changed.
        training: Whether the model is going to be trained.
        trusted: Whether code that a checkpoint brings along may be executed.

    Raises:
        LaunchError: A file is missing, no checkpoint, cut short, of another architecture, or holds code.
    """
    for path in dict.fromkeys(_pretrained(cfg.get('model')) if training else ()):
        if _is_local(path):
            _read(path, trusted)
    resume = training and cfg.get('resume')
    path = cfg.get('load_from')
    if resume and not path:
        path = _last_checkpoint(cfg.work_dir)
    if not path or not _is_local(path):
        return
    checkpoint = _read(path, trusted)
    if resume and not ('optimizer' in checkpoint and 'meta' in checkpoint):
        raise LaunchError(
            f'{path} holds weights alone, not the state of a training to resume; to start from its weights '
            f'use --cfg-options load_from={path}'
        )
    weights = checkpoint.get('state_dict', checkpoint)
    weights = {
        key.removeprefix('module.'): value for key, value in weights.items() if isinstance(value, Tensor)
    }
    _check_fit(path, model, weights, whole=bool(resume) or not training)


def _pretrained(model: Any) -> Iterator[str]:
    """Find the checkpoints that parts of the model are initialized with."""
    for part in mappings(model):
        if part.get('type') == 'Pretrained' and isinstance(part.get('checkpoint'), str):
            yield part['checkpoint']


def _is_local(path: str) -> bool:
    return '://' not in path


def _last_checkpoint(work_dir: str) -> str | None:
    """Return the checkpoint that ``--resume`` without a name goes on from."""
    if not Path(work_dir, 'last_checkpoint').is_file():
        warn_user(f'--resume: {work_dir} holds no checkpoint, so training starts at the beginning')
        return None
    path = find_latest_checkpoint(work_dir)
    if not path or _is_local(path) and not Path(path).is_file():
        raise LaunchError(
            f'{work_dir}/last_checkpoint names {path!r}, which is not there; name the checkpoint '
            f'to go on from: --resume {work_dir}/epoch_N.pth'
        )
    return path


def _read(path: str, trusted: bool) -> dict[str, Any]:
    try:
        return read_checkpoint(path, trusted=trusted)
    except UnsupportedValueError as error:
        raise LaunchError(f'{error}; {TRUST_REMEDY}') from None
    except CheckpointError as error:
        raise LaunchError(f'{error}; or take another checkpoint') from None


def _check_fit(path: str, model: nn.Module, weights: dict[str, Tensor], whole: bool) -> None:
    own = model.state_dict()
    fitting = {key: v for key, v in weights.items() if key not in own or own[key].shape == v.shape}
    if not own.keys() & fitting.keys():
        raise LaunchError(
            f'{path} has none of the {len(own)} tensors of the model: it belongs to another architecture; '
            'take the config that it was trained with'
        )
    if not whole:
        return
    remedy = 'take the config that the checkpoint was trained with'
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # the run itself will say what it rebuilds
            # The model knows what it can do without, and older names of what it has.
            lacking = model.load_state_dict(fitting, strict=False).missing_keys
    except RuntimeError as error:
        raise LaunchError(f'{path} does not fit the model: {last_line(error)}; {remedy}') from None
    lacking = [key for key in lacking if not key.endswith('.num_batches_tracked')]
    missing = [key for key in lacking if key not in weights]
    other = [key for key in lacking if key in weights]
    if lacking:
        wrong = [f'{len(missing)} are missing (e.g. {missing[0]})'] if missing else []
        wrong += [f'{len(other)} have another shape (e.g. {other[0]})'] if other else []
        raise LaunchError(
            f'{path} does not fit the model: of its {len(own)} tensors {" and ".join(wrong)}; {remedy}'
        )
