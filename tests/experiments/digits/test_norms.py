"""The methods and their hyper-parameters."""

import pytest
import torch
from torch import nn

from experiments.digits.norms import COMPETITORS, make_norm, paper_window_size
from mmdet_cbn.layers import (
    BatchRenorm2d,
    CenteredConv2d,
    CrossIterationBatchNorm2d,
    MovingAverageBatchNorm2d,
    NaiveCrossIterationBatchNorm2d,
)


def test_window_size_by_the_papers_rule():
    assert [paper_window_size(size) for size in (1, 2, 3, 4, 8, 16, 32)] == [8, 8, 6, 4, 2, 1, 1]


def test_what_each_method_is_made_of():
    layers = {name: make_norm(name, 6, 30, 400)(16) for name in COMPETITORS}
    assert {name: type(layer) for name, layer in layers.items()} == {
        'bn': nn.BatchNorm2d,
        'gn': nn.GroupNorm,
        'brn': BatchRenorm2d,
        'naive-cbn': NaiveCrossIterationBatchNorm2d,
        'cbn': CrossIterationBatchNorm2d,
        'cbn-window-gradient': CrossIterationBatchNorm2d,
        'mabn': MovingAverageBatchNorm2d,
    }
    assert layers['gn'].num_groups == 4
    assert (layers['brn'].warmup_iters, layers['brn'].momentum) == (100, 0.01)
    for name in ('naive-cbn', 'cbn', 'cbn-window-gradient'):
        assert (layers[name].window_size, layers[name].burn_in) == (6, 30)
    assert not layers['cbn'].window_gradient
    assert layers['cbn-window-gradient'].window_gradient
    assert {name for name, method in COMPETITORS.items() if method.conv is CenteredConv2d} == {'mabn'}


@pytest.mark.parametrize('name', COMPETITORS)
def test_layers_have_affine_parameters_that_start_as_identity(name):
    layer = make_norm(name, 8, 0, 10)(16)
    assert torch.equal(layer.weight, torch.ones(16))
    assert torch.equal(layer.bias, torch.zeros(16))
