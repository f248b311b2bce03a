"""Checks of the checkpoints that a run starts from."""

import os
import warnings
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.runner import find_latest_checkpoint
from torch import Tensor, nn
from torch.optim import Optimizer

from ..checkpoints import CheckpointError, UnsupportedValueError, read_checkpoint
from .config_walk import mappings
from .errors import LaunchError, warn_user
from .explanations import TRUST_REMEDY, last_line
from .wording import shorten

_OF_OPTIMIZER = ('optimizer', 'paramwise_cfg', 'constructor')


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
    for source in dict.fromkeys(_pretrained(cfg.get('model')) if training else ()):
        if _is_local(source):
            _read(source, trusted)
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
    if resume and 'optimizer' in cfg.get('optim_wrapper', {}):
        _check_optimizer(path, checkpoint['optimizer'], build_optimizer(cfg, model))


def build_optimizer(cfg: Config, model: nn.Module) -> Optimizer:
    """Build the optimizer of a config, without what mixed precision needs a GPU for."""
    settings = {key: cfg.optim_wrapper[key] for key in _OF_OPTIMIZER if key in cfg.optim_wrapper}
    return build_optim_wrapper(model, {**deepcopy(settings), 'type': 'OptimWrapper'}).optimizer


def _pretrained(model: Any) -> Iterator[str]:
    """Find the checkpoints that parts of the model are initialized with."""
    for part in mappings(model):
        if part.get('type') == 'Pretrained' and isinstance(part.get('checkpoint'), str):
            yield part['checkpoint']


def _is_local(path: str) -> bool:
    return '://' not in path


def _last_checkpoint(work_dir: str) -> str | None:
    """Return the checkpoint that ``--resume`` without a name goes on from."""
    last = Path(work_dir, 'last_checkpoint')
    if last.is_dir():
        raise LaunchError(
            f'{last} is a folder; name the checkpoint to go on from: --resume {work_dir}/epoch_N.pth'
        )
    if not last.is_file():
        warn_user(f'--resume: {work_dir} holds no checkpoint, so training starts at the beginning')
        return None
    try:
        path = find_latest_checkpoint(work_dir)
    except UnicodeDecodeError:
        path = 'something that is no text'
    if not path or _is_local(path) and not os.path.isfile(path):
        raise LaunchError(
            f'{work_dir}/last_checkpoint names {shorten(path)}, which is not there; name the checkpoint '
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


def _check_optimizer(path: str, state: Any, optimizer: Optimizer) -> None:
    """Check that the state of an optimizer goes with one of another run; torch looks at the sizes alone."""
    groups = state.get('param_groups') if isinstance(state, dict) else None
    own = optimizer.state_dict()['param_groups']
    kind = type(optimizer).__name__
    remedy = f'take the optimizer that it was trained with, or start from its weights: load_from={path}'
    if not isinstance(groups, list) or not all(
        isinstance(group, dict) and 'params' in group for group in groups
    ):
        raise LaunchError(
            f'{path} holds no state of an optimizer; to start from its weights use load_from={path}'
        )
    sizes, own_sizes = ([len(group['params']) for group in all_] for all_ in (groups, own))
    if sizes != own_sizes:
        raise LaunchError(
            f'{path}: its optimizer has {len(sizes)} groups of {sum(sizes)} parameters, that of the config '
            f'({kind}) {len(own_sizes)} of {sum(own_sizes)}; {remedy}'
        )
    # Later versions of torch add switches, which are off.
    settings = {key for key, value in own[0].items() if value is not None and type(value) is not bool}
    lacking = sorted(settings - set(groups[0]))
    if lacking:
        raise LaunchError(
            f'{path}: its optimizer has no {", ".join(lacking)}, so it is not the {kind} of the config; '
            f'{remedy}'
        )


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
