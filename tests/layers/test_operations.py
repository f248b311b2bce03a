"""How many operations a training step issues: each is a launch on a GPU, and the count is exact."""

import pytest
import torch
from torch import nn

from experiments.benchmarks.measuring import settle
from experiments.benchmarks.operations import training_operations
from mmdet_cbn.layers import (
    AveragedBatchNorm2d,
    BatchRenorm2d,
    CenteredConv2d,
    CrossIterationBatchNorm2d,
    MovingAverageBatchNorm2d,
    NaiveCrossIterationBatchNorm2d,
    pair_conv_norm,
)

C = 8
LIMITS = {
    'BN': (nn.BatchNorm2d, {}, 13),
    'CBN': (CrossIterationBatchNorm2d, {}, 55),
    'CBN, fraction 1/8': (CrossIterationBatchNorm2d, {'derivative_fraction': 1 / 8}, 63),
    'CBN, window_gradient': (CrossIterationBatchNorm2d, {'window_gradient': True}, 80),
    'CBN, exponential': (CrossIterationBatchNorm2d, {'averaging': 'exponential'}, 55),
    'CBN, exponential, fraction 1/8': (
        CrossIterationBatchNorm2d,
        {'averaging': 'exponential', 'derivative_fraction': 1 / 8},
        65,
    ),
    'CBN, exponential, window_gradient': (
        CrossIterationBatchNorm2d,
        {'averaging': 'exponential', 'window_gradient': True},
        85,
    ),
    'Naive CBN': (NaiveCrossIterationBatchNorm2d, {}, 43),
    'Naive CBN, exponential': (NaiveCrossIterationBatchNorm2d, {'averaging': 'exponential'}, 39),
    'AvgBN': (AveragedBatchNorm2d, {}, 58),
    'MABN': (MovingAverageBatchNorm2d, {}, 45),
    'BRN': (BatchRenorm2d, {}, 35),
}


@pytest.mark.parametrize('name', LIMITS)
def test_operations_of_a_step(name):
    layer, arguments, limit = LIMITS[name]
    conv = CenteredConv2d if layer is MovingAverageBatchNorm2d else nn.Conv2d
    block = nn.Sequential(conv(C, C, 3, padding=1, bias=False), layer(C, **arguments), nn.ReLU())
    pair_conv_norm(block)
    x = torch.randn(2, C, 9, 9, requires_grad=True)
    block(x).sum().backward()
    settle(block)
    for _ in range(5):
        block(x).sum().backward()
    issued = training_operations(block, x)
    total = issued.total()
    assert total <= limit, f'{name}: {total} operations a step, at most {limit}\n{issued}'
