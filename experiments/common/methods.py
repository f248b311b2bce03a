"""The norms that compete. Each experiment adds the arguments that are its own; the rest are defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from mmdet_cbn.layers import (
    BatchRenorm2d,
    CenteredConv2d,
    CrossIterationBatchNorm2d,
    MovingAverageBatchNorm2d,
    NaiveCrossIterationBatchNorm2d,
)

from .standardized_conv import StandardizedConv2d

REFERENCE = 'bn'  # what the others are compared with


@dataclass(frozen=True)
class Method:
    """One competitor.

    Args:
        label: Its name in tables and legends.
        norm: The layer.
        arguments: The arguments that make it what it is.
        conv: The convolution it belongs behind.
        has_window: Whether an experiment sets its window and burn-in.
        has_warm_up: Whether an experiment sets ``warmup_iters`` in proportion to the run.
    """

    label: str
    norm: type[nn.Module]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    conv: type[nn.Conv2d] = nn.Conv2d
    has_window: bool = False
    has_warm_up: bool = False

    def make_norm(self, channels: int, **arguments: Any) -> nn.Module:
        """Make a layer with ``arguments`` beside the method's own."""
        size = 'num_channels' if self.norm is nn.GroupNorm else 'num_features'
        return self.norm(**{size: channels}, **self.arguments, **arguments)


def _cbn(label: str, **arguments: Any) -> Method:
    return Method(label, CrossIterationBatchNorm2d, arguments, has_window=True)


METHODS: Mapping[str, Method] = {
    'bn': Method('BN', nn.BatchNorm2d),
    'gn': Method('GN', nn.GroupNorm),
    'gn-ws': Method('GN, WS', nn.GroupNorm, conv=StandardizedConv2d),
    'sync-bn': Method('SyncBN', nn.SyncBatchNorm),
    'brn': Method('BRN', BatchRenorm2d, has_warm_up=True),
    'naive-cbn': Method('Naive CBN', NaiveCrossIterationBatchNorm2d, has_window=True),
    'cbn': _cbn('CBN'),
    'cbn-window-gradient': _cbn('CBN, window_gradient', window_gradient=True),
    'cbn-exponential': _cbn('CBN, exponential', averaging='exponential'),
    'cbn-exponential-window-gradient': _cbn(
        'CBN, exponential, window_gradient', averaging='exponential', window_gradient=True
    ),
    'mabn': Method('MABN', MovingAverageBatchNorm2d, conv=CenteredConv2d),
}
