"""Checkpoints for stock MMDetection, which loads them without this package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from ..layers import to_batch_norm
from ..layers.names import NORM_LAYERS
from .files import write_checkpoint

if TYPE_CHECKING:
    from mmengine.config import Config

_HOOKS = ('CrossIterationHook', 'StatisticsHook')
_OWN_ARGUMENTS = ('eps', 'momentum', 'affine', 'track_running_stats', 'requires_grad')


def write_plain_checkpoint(
    cfg: Config, model: nn.Module, checkpoint: dict[str, Any], dst: str | Path
) -> Config:
    """Write the weights of a model as those of the same model with plain BN.

    The optimizer's state is dropped, ``meta`` is kept, with the plain config in the place of the config.

    Args:
        cfg: The config of the model.
        model: What it describes, with the weights of the checkpoint; it becomes plain.
        checkpoint: Where the weights come from.
        dst: Where to write.

    Returns:
        The plain config.

    Raises:
        OSError: The file cannot be written; nothing of it is left.
    """
    plain = plain_config(cfg)
    meta = {**checkpoint.get('meta', {}), 'cfg': plain.pretty_text}
    write_checkpoint({'meta': meta, 'state_dict': to_batch_norm(model).state_dict()}, dst)
    return plain


def plain_config(cfg: Config) -> Config:
    """Return the config of the same model with plain BN, for MMDetection without this package.

    ``norm_cfg`` of this package become BN's, ``CenConv2d`` and ``PairedConvModule`` the plain ones; the hooks
    and imports of this package go. What the model of the papers has beyond MMDetection 3
    (``mmdet_cbn.authors_detectors``) stays imported where it is in use.

    Args:
        cfg: A whole config; it is not changed.
    """
    from mmengine.config import Config

    plain = _plain(cfg.to_dict())
    hooks = plain.get('custom_hooks')
    if hooks:
        plain['custom_hooks'] = [hook for hook in hooks if hook.get('type') not in _HOOKS]
    imports = plain.pop('custom_imports', None)
    if imports:
        names = imports['imports'] if isinstance(imports['imports'], list) else [imports['imports']]
        kept = [name for name in names if name.partition('.')[0] != 'mmdet_cbn']
        if _uses_authors_detectors(plain):
            kept.append('mmdet_cbn.authors_detectors')
        if kept:
            plain['custom_imports'] = {**imports, 'imports': kept}
    return Config(plain)


def needs_package(cfg: Config) -> bool:
    """Tell whether a plain config needs this package all the same."""
    return 'mmdet_cbn.authors_detectors' in (cfg.get('custom_imports') or {}).get('imports', [])


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_plain(part) for part in value)
    if not isinstance(value, dict):
        return value
    kind = value.get('type')
    if kind in NORM_LAYERS:
        kept = {name: value[name] for name in _OWN_ARGUMENTS if name in value}
        return {'type': 'BN', **kept}
    if kind == 'PairedConvModule':
        kind = 'ConvModule'
    plain = {name: _plain(part) for name, part in value.items()}
    if kind is not None:
        plain['type'] = kind
    return None if kind == 'CenConv2d' else plain


def _uses_authors_detectors(value: Any) -> bool:
    from .. import authors_detectors

    if isinstance(value, list | tuple):
        return any(map(_uses_authors_detectors, value))
    if not isinstance(value, dict):
        return False
    own = getattr(getattr(authors_detectors, str(value.get('type')), None), '__module__', None)
    return own == authors_detectors.__name__ or any(map(_uses_authors_detectors, value.values()))
