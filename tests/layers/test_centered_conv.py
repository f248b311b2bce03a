"""Centred convolutions against their definition."""

import pytest
import torch
from torch import nn

from mmdet_cbn.layers import CenteredConv2d, fold_centering

GEOMETRIES = [
    {'kernel_size': 3},
    {'kernel_size': (1, 3), 'stride': 2, 'padding': (0, 1), 'groups': 2, 'bias': False},
    {'kernel_size': 3, 'padding': 2, 'dilation': 2, 'padding_mode': 'reflect'},
]


@pytest.mark.parametrize('geometry', GEOMETRIES)
def test_each_filter_loses_its_mean(geometry):
    conv = CenteredConv2d(4, 6, **geometry, dtype=torch.float64)
    plain = nn.Conv2d(4, 6, **geometry, dtype=torch.float64)
    plain.load_state_dict(conv.state_dict())
    for j in range(6):
        plain.weight.data[j] -= plain.weight.data[j].sum() / plain.weight[j].numel()
    x = torch.randn(2, 4, 8, 9, dtype=torch.float64)
    torch.testing.assert_close(conv(x), plain(x), rtol=1e-12, atol=1e-12)


def test_gradient_has_no_component_along_a_constant_filter():
    conv = CenteredConv2d(4, 6, 3, dtype=torch.float64)
    conv(torch.randn(2, 4, 8, 8, dtype=torch.float64)).pow(2).sum().backward()
    assert conv.weight.grad.sum((1, 2, 3)).abs().max() < 1e-10


@pytest.mark.parametrize('training', [True, False])
def test_first_and_second_derivatives(training):
    conv = CenteredConv2d(2, 3, 2, dtype=torch.float64).train(training)
    x = torch.randn(1, 2, 4, 3, dtype=torch.float64, requires_grad=True)

    def output(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(conv, {'weight': weight}, (x,)).pow(3)

    assert torch.autograd.gradcheck(output, (x, conv.weight))
    assert torch.autograd.gradgradcheck(output, (x, conv.weight))


@pytest.mark.parametrize('geometry', GEOMETRIES)
def test_fold_centering_keeps_the_function_and_leaves_plain_convolutions(geometry):
    model = nn.Sequential(CenteredConv2d(4, 6, **geometry), nn.Sequential(nn.ReLU(), CenteredConv2d(6, 2, 1)))
    x = torch.randn(2, 4, 8, 9)
    expected = model(x)
    folded = fold_centering(model)
    assert not any(isinstance(m, CenteredConv2d) for m in folded.modules())
    torch.testing.assert_close(folded(x), expected)
    assert fold_centering(CenteredConv2d(2, 2, 1)).__class__ is nn.Conv2d


def test_weight_of_one_value_per_filter_is_centred_to_zero():
    assert torch.equal(CenteredConv2d(1, 2, 1, bias=False)(torch.randn(1, 1, 3, 3)), torch.zeros(1, 2, 3, 3))
