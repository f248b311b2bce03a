"""The normalization layers that the study compares, and the hyper-parameters of each.

What is not stated here is the layer's default. Nothing here was searched for: the values are those of the
papers, in their proportion to the length of the run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import nn

from ..layers import (
    BatchRenorm2d,
    CenteredConv2d,
    CrossIterationBatchNorm2d,
    MovingAverageBatchNorm2d,
    NaiveCrossIterationBatchNorm2d,
)

CHANNELS_PER_GROUP = 4  # of GN
WARM_UP = 0.25  # of the run, for BRN's limits; CBN's burn-in of 3 in 12 epochs is as long


@dataclass(frozen=True)
class Method:
    """One competitor.

    Args:
        label: Its name in tables and legends.
        norm: Makes a layer for a number of channels and ``arguments``.
        arguments: Its hyper-parameters.
        conv: The convolution it belongs behind.
        has_window: Whether it takes ``window_size`` and ``burn_in``.
        has_warm_up: Whether it takes ``warmup_iters`` in proportion to the run.
    """

    label: str
    norm: Callable[..., nn.Module]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    conv: type[nn.Conv2d] = nn.Conv2d
    has_window: bool = False
    has_warm_up: bool = False


def _group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(channels // CHANNELS_PER_GROUP, channels)


METHODS: Mapping[str, Method] = {
    'bn': Method('BN', nn.BatchNorm2d),
    'gn': Method('GN', _group_norm),
    # The BRN paper asks for a slower average than BN's: its running statistics take part in training.
    'brn': Method('BRN', BatchRenorm2d, {'momentum': 0.01}, has_warm_up=True),
    'naive-cbn': Method('Naive CBN', NaiveCrossIterationBatchNorm2d, has_window=True),
    'cbn': Method('CBN', CrossIterationBatchNorm2d, has_window=True),
    'cbn-window-gradient': Method(
        'CBN, window_gradient', CrossIterationBatchNorm2d, {'window_gradient': True}, has_window=True
    ),
    'mabn': Method('MABN', MovingAverageBatchNorm2d, conv=CenteredConv2d),
}


def paper_window_size(batch_size: int) -> int:
    """Return the CBN paper's k for a batch size: at least 16 images, at most 8 iterations."""
    return min(math.ceil(16 / batch_size), 8)


def make_norm(name: str, window_size: int, burn_in: int, iterations: int) -> Callable[[int], nn.Module]:
    """Return a function that makes the norm of a method for a number of channels.

    Args:
        name: Of the method.
        window_size: k, for methods with a window.
        burn_in: In iterations, for methods with a window.
        iterations: Length of the run.
    """
    method = METHODS[name]
    arguments = dict(method.arguments)
    if method.has_window:
        arguments |= {'window_size': window_size, 'burn_in': burn_in}
    if method.has_warm_up:
        arguments['warmup_iters'] = round(WARM_UP * iterations)
    return partial(method.norm, **arguments)
