"""Layers of timm that are more than those of torch, recognized by name: it is not imported here."""

from importlib import import_module
from typing import Any

from torch import Tensor, nn


def is_padded_conv(conv: nn.Module) -> bool:
    """Tell whether ``conv`` is an ``nn.Conv2d`` that pads by itself as TensorFlow's SAME does."""
    return _qualified_name(conv) in (
        'timm.layers.conv2d_same.Conv2dSame',
        'timm.layers.conv2d_same.Conv2dSameExport',
    )


def is_norm_with_activation(norm: nn.Module) -> bool:
    """Tell whether ``norm`` is a batch norm followed by its own ``drop`` and ``act``."""
    return _qualified_name(norm) in (
        'timm.layers.norm_act.BatchNormAct2d',
        'timm.layers.norm_act.FrozenBatchNormAct2d',
    )


def move_activation(old: nn.Module, new: nn.Module) -> None:
    """Let ``new`` apply the drop and the activation of ``old`` behind it, under the same names."""
    new.drop, new.act = old.drop, old.act
    new.register_forward_hook(apply_activation)


def has_activation(norm: nn.Module) -> bool:
    """Tell whether :func:`move_activation` gave ``norm`` an activation."""
    return apply_activation in norm._forward_hooks.values()


def apply_activation(self: Any, inputs: tuple[Tensor], output: Tensor) -> Tensor:
    """Follow a norm: its forward hook, which ``torch.jit.script`` compiles by these names and types."""
    activated: Tensor = self.act(self.drop(output))
    return activated


def as_norm_with_activation(plain: nn.BatchNorm2d, norm: Any) -> nn.BatchNorm2d:
    """Make ``plain`` timm's own layer again, with the activation of ``norm``."""
    plain.__class__ = import_module('timm.layers').BatchNormAct2d
    plain.drop, plain.act = norm.drop, norm.act
    return plain


def _qualified_name(module: nn.Module) -> str:
    return f'{type(module).__module__}.{type(module).__qualname__}'
