"""The way back: a model without anything of this package."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

import torch
from torch import nn

from . import timm_layers
from .centered_conv import CenteredConv2d, fold_centering
from .cross_iteration import CrossIterationBatchNorm2d
from .ghost_batch import GhostBatchNorm2d
from .stateful_norm import StatefulNorm


@singledispatch
def plain_module(module: nn.Module) -> nn.Module:
    """Return what stands for ``module`` in a plain model, its children apart: most modules themselves.

    Args:
        module: Of any kind.
    """
    return module


@plain_module.register
def _(conv: CenteredConv2d) -> nn.Module:
    return fold_centering(conv)


@plain_module.register(StatefulNorm)
def _plain_norm(norm: Any) -> nn.Module:
    settings = norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats
    plain = nn.BatchNorm2d(*settings, device='meta')
    for name in (*plain._parameters, *plain._buffers):
        setattr(plain, name, getattr(norm, name))
    if isinstance(norm, CrossIterationBatchNorm2d):
        norm.unpair()
    if timm_layers.has_activation(norm):
        plain = timm_layers.as_norm_with_activation(plain, norm)
    return plain.train(norm.training)


plain_module.register(GhostBatchNorm2d, _plain_norm)


@torch.no_grad()
def to_batch_norm(model: nn.Module) -> nn.Module:
    """Replace every layer of this package by the plain one that computes the same in eval mode, in place.

    Norms become ``nn.BatchNorm2d`` with their parameters and running statistics, and convolutions with
    centred filters ``nn.Conv2d``, the centring done. Model and state dict then need torch and the model's
    own library alone. What norms remember of earlier iterations is lost.

    Args:
        model: Any module.

    Returns:
        The model, or what replaces it when it is a layer of this package itself.

    Example:
        >>> to_batch_norm(nn.Sequential(CenteredConv2d(3, 8, 3), MovingAverageBatchNorm2d(8)))
        Sequential(
          (0): Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1))
          (1): BatchNorm2d(8, eps=1e-05, momentum=0.02, affine=True, track_running_stats=True)
        )
    """
    plain = {module: plain_module(module) for module in model.modules()}
    for module in plain.values():
        for name, child in module._modules.items():
            if child is not None and plain.get(child, child) is not child:
                setattr(module, name, plain[child])
    return plain[model]
