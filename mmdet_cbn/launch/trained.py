"""A model with the weights of a checkpoint, all of them checked."""

from typing import Any

from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from ..checkpoints import read_checkpoint
from .checkpoints import check_checkpoints
from .command_line import read_config
from .errors import LaunchError
from .model import check_model


def load_trained_model(config: str, path: str) -> tuple[Config, nn.Module, dict[str, Any]]:
    """Read a config and a checkpoint that was trained with it.

    Args:
        config: Path of the config.
        path: Of the checkpoint, a file.

    Returns:
        The config, the model in eval mode on the CPU, and the checkpoint.

    Raises:
        LaunchError: One of them is not what it should be, or they do not belong together.
    """
    cfg = read_config(config)
    if cfg.get('model') is None:
        raise LaunchError(f'{config} does not define model: base it on a whole config (_base_ = ...)')
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    model = check_model(cfg, training=False)
    cfg.load_from, load_from = path, cfg.get('load_from')
    check_checkpoints(cfg, model, training=False)
    cfg.load_from = load_from
    checkpoint = read_checkpoint(path)
    state_dict = checkpoint.get('state_dict', checkpoint)
    weights = {key.removeprefix('module.'): value for key, value in state_dict.items()}
    model.load_state_dict(weights, strict=False)  # what may be missing has been checked
    return cfg, model.eval(), checkpoint
