"""The norms of the package, with arguments so short that a few steps see all that a layer does.

A new norm enters :data:`NORMS`, and takes part in all tests of whatever holds for every norm.
"""

from dataclasses import dataclass, field

import pytest
from torch import nn

from mmdet_cbn.layers import (
    AveragedBatchNorm2d,
    BatchRenorm2d,
    CenteredConv2d,
    CrossIterationBatchNorm2d,
    CrossIterationNorm,
    MovingAverageBatchNorm2d,
    NaiveCrossIterationBatchNorm2d,
)


@dataclass(frozen=True)
class Norm:
    """A layer, its name in a ``norm_cfg``, its arguments, and the convolution that belongs before it."""

    layer: type[nn.Module]
    type: str
    arguments: dict[str, object] = field(default_factory=dict)
    conv: type[nn.Conv2d] = nn.Conv2d

    def __call__(self, channels: int, **arguments: object) -> nn.Module:
        """Build the layer, with some arguments changed."""
        return self.layer(channels, **{**self.arguments, **arguments})

    @property
    def norm_cfg(self) -> dict[str, object]:
        """The same for a config."""
        return {'type': self.type, **self.arguments}

    @property
    def conv_cfg(self) -> dict[str, str] | None:
        """The ``conv_cfg`` that goes with it."""
        return {'type': 'CenConv2d'} if self.conv is CenteredConv2d else None


NORMS = {
    'CBN': Norm(CrossIterationBatchNorm2d, 'CBN', {'window_size': 3}),
    'CBN with window_gradient': Norm(
        CrossIterationBatchNorm2d, 'CBN', {'window_size': 3, 'window_gradient': True}
    ),
    'CBN, exponential': Norm(
        CrossIterationBatchNorm2d,
        'CBN',
        {'window_size': 3, 'averaging': 'exponential', 'window_gradient': True},
    ),
    'NaiveCBN': Norm(NaiveCrossIterationBatchNorm2d, 'NaiveCBN', {'window_size': 3}),
    'AvgBN': Norm(AveragedBatchNorm2d, 'AvgBN', {'window_size': 3}),
    'MABN': Norm(MovingAverageBatchNorm2d, 'MABN', {'buffer_size': 3, 'warmup_iters': 2}, CenteredConv2d),
    'BRN': Norm(BatchRenorm2d, 'BRN', {'warmup_iters': 3}),
}
# What keeps a window of iterations.
WINDOWED = tuple(name for name, norm in NORMS.items() if issubclass(norm.layer, CrossIterationNorm))
TYPES = tuple(dict.fromkeys(norm.type for norm in NORMS.values()))
every_norm = pytest.mark.parametrize('name', NORMS)
every_type = pytest.mark.parametrize('kind', TYPES)
