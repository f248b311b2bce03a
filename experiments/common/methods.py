"""The norms that compete. Each experiment adds the arguments that are its own; the rest are defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from mmdet_cbn.layers import (
    AveragedBatchNorm2d,
    BatchRenorm2d,
    CenteredConv2d,
    CrossIterationBatchNorm2d,
    MovingAverageBatchNorm2d,
    NaiveCrossIterationBatchNorm2d,
)
from mmdet_cbn.layers.growing_window import GrowingWindow
from mmdet_cbn.layers.window import Window

from .standardized_conv import StandardizedConv2d

REFERENCE = 'bn'  # what the others are compared with
USUAL_BATCH = 32  # images, with which BN does well


@dataclass(frozen=True)
class Method:
    """One competitor.

    Args:
        label: Its name in tables and legends.
        norm: The layer.
        arguments: The arguments that make it what it is.
        conv: The convolution it belongs behind.
        window_size: Returns k for the images of a batch; None for methods without a window.
        has_burn_in: Whether an experiment sets a burn-in in proportion to the run.
        has_warm_up: Whether an experiment sets ``warmup_iters`` in proportion to the run.
    """

    label: str
    norm: type[nn.Module]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    conv: type[nn.Conv2d] = nn.Conv2d
    window_size: Callable[[int], int] | None = None
    has_burn_in: bool = False
    has_warm_up: bool = False

    def make_norm(self, channels: int, **arguments: Any) -> nn.Module:
        """Make a layer with ``arguments`` beside the method's own."""
        size = 'num_channels' if self.norm is nn.GroupNorm else 'num_features'
        return self.norm(**{size: channels}, **self.arguments, **arguments)


def _with_window(label: str, norm: type[nn.Module] = CrossIterationBatchNorm2d, **arguments: Any) -> Method:
    return Method(label, norm, arguments, window_size=Window.size_for, has_burn_in=True)


_GROWING = Method(
    'CBN, growing, window_gradient',
    CrossIterationBatchNorm2d,
    {'averaging': 'growing', 'window_gradient': True},
    window_size=GrowingWindow.size_for,
)
METHODS: Mapping[str, Method] = {
    'bn': Method('BN', nn.BatchNorm2d),
    'bn-cen': Method('BN, centred', nn.BatchNorm2d, conv=CenteredConv2d),
    'gn': Method('GN', nn.GroupNorm),
    'gn-ws': Method('GN, WS', nn.GroupNorm, conv=StandardizedConv2d),
    'sync-bn': Method('SyncBN', nn.SyncBatchNorm),
    'brn': Method('BRN', BatchRenorm2d, has_warm_up=True),
    'naive-cbn': _with_window('Naive CBN', NaiveCrossIterationBatchNorm2d),
    'cbn': _with_window('CBN'),
    'cbn-window-gradient': _with_window('CBN, window_gradient', window_gradient=True),
    'cbn-exponential': _with_window('CBN, exponential', averaging='exponential'),
    'cbn-exponential-window-gradient': _with_window(
        'CBN, exponential, window_gradient', averaging='exponential', window_gradient=True
    ),
    'naive-cbn-cen': replace(
        _with_window('Naive CBN, centred', NaiveCrossIterationBatchNorm2d), conv=CenteredConv2d
    ),
    'cbn-cen': replace(_with_window('CBN, centred'), conv=CenteredConv2d),
    'cbn-growing-window-gradient': _GROWING,
    'cbn-growing-window-gradient-cen': replace(
        _GROWING, label='CBN, growing, window_gradient, centred', conv=CenteredConv2d
    ),
    'avgbn': Method('AvgBN', AveragedBatchNorm2d, window_size=GrowingWindow.size_for),
    'avgbn-cen': Method(
        'AvgBN, centred', AveragedBatchNorm2d, conv=CenteredConv2d, window_size=GrowingWindow.size_for
    ),
    'mabn': Method('MABN', MovingAverageBatchNorm2d, conv=CenteredConv2d),
    'mabn-plain': Method('MABN, not centred', MovingAverageBatchNorm2d),
}
