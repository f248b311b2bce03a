"""The methods and their hyper-parameters."""

import pytest
import torch
from torch import nn

from experiments.common.standardized_conv import StandardizedConv2d
from experiments.digits.norms import COMPETITORS, make_norm
from mmdet_cbn.layers import (
    AveragedBatchNorm2d,
    BatchRenorm2d,
    CenteredConv2d,
    CrossIterationBatchNorm2d,
    MovingAverageBatchNorm2d,
    NaiveCrossIterationBatchNorm2d,
)


def test_what_each_method_is_made_of():
    layers = {name: make_norm(name, 6, 30, 400)(16) for name in COMPETITORS}
    assert {name: type(layer) for name, layer in layers.items()} == {
        'bn': nn.BatchNorm2d,
        'bn-cen': nn.BatchNorm2d,
        'gn': nn.GroupNorm,
        'gn-ws': nn.GroupNorm,
        'sync-bn': nn.BatchNorm2d,  # over the joint batch of its workers
        'brn': BatchRenorm2d,
        'naive-cbn': NaiveCrossIterationBatchNorm2d,
        'cbn': CrossIterationBatchNorm2d,
        'cbn-window-gradient': CrossIterationBatchNorm2d,
        'cbn-exponential': CrossIterationBatchNorm2d,
        'cbn-exponential-window-gradient': CrossIterationBatchNorm2d,
        'naive-cbn-cen': NaiveCrossIterationBatchNorm2d,
        'cbn-cen': CrossIterationBatchNorm2d,
        'cbn-growing-window-gradient': CrossIterationBatchNorm2d,
        'cbn-growing-window-gradient-cen': CrossIterationBatchNorm2d,
        'avgbn': AveragedBatchNorm2d,
        'avgbn-cen': AveragedBatchNorm2d,
        'mabn': MovingAverageBatchNorm2d,
        'mabn-plain': MovingAverageBatchNorm2d,
    }
    assert layers['gn'].num_groups == layers['gn-ws'].num_groups == 4
    assert (layers['brn'].warmup_iters, layers['brn'].momentum) == (100, 0.01)
    windowed = [name for name in COMPETITORS if 'cbn' in name]
    assert len(windowed) == 9
    for name in windowed:
        assert (layers[name].window_size, layers[name].burn_in) == (6, 30)
        assert getattr(layers[name], 'window_gradient', False) is ('window-gradient' in name)
        averaging = next((kind for kind in ('exponential', 'growing') if kind in name), 'window')
        assert layers[name].averaging == averaging
    convs = {name: method.conv for name, method in COMPETITORS.items() if method.conv is not nn.Conv2d}
    centred = {name for name in COMPETITORS if name.endswith('-cen')} | {'mabn'}
    assert convs == {**dict.fromkeys(centred, CenteredConv2d), 'gn-ws': StandardizedConv2d}


@pytest.mark.parametrize('name', COMPETITORS)
def test_layers_have_affine_parameters_that_start_as_identity(name):
    layer = make_norm(name, 8, 0, 10)(16)
    assert torch.equal(layer.weight, torch.ones(16))
    assert torch.equal(layer.bias, torch.zeros(16))
