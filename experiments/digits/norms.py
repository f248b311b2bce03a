"""Which methods the study compares, and the hyper-parameters of each.

What is not stated here is the layer's default. Nothing here was searched for: the values are those of the
papers, in their proportion to the length of the run. The learning rate, which is, has a module of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from torch import nn

from ..common.methods import METHODS, Method

# Over the joint batch of its workers SyncBN is BN, which runs without a GPU.
SYNC = 'sync-bn'
COMPETITORS: Mapping[str, Method] = {**METHODS, SYNC: replace(METHODS[SYNC], norm=nn.BatchNorm2d)}
CHANNELS_PER_GROUP = 4  # of GN
# The BRN paper asks for a slower average than BN's: its running statistics take part in training.
BRN_MOMENTUM = 0.01
WARM_UP = 0.25  # of the run, for BRN's limits; CBN's burn-in of 3 in 12 epochs is as long


def make_norm(name: str, window_size: int, burn_in: int, iterations: int) -> Callable[[int], nn.Module]:
    """Return a function that makes the norm of a method for a number of channels.

    Args:
        name: Of the method.
        window_size: k, for methods with a window.
        burn_in: In iterations, for methods with a window.
        iterations: Length of the run.
    """
    method = COMPETITORS[name]
    if method.norm is nn.GroupNorm:
        return lambda channels: method.make_norm(channels, num_groups=channels // CHANNELS_PER_GROUP)
    arguments: dict[str, Any] = {}
    if method.window_size:
        arguments |= {'window_size': window_size, 'burn_in': burn_in}
    if method.has_warm_up:
        arguments |= {'warmup_iters': round(WARM_UP * iterations), 'momentum': BRN_MOMENTUM}
    return partial(method.make_norm, **arguments)
