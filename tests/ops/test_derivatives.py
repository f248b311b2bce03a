"""Derivatives of the statistics against autograd, in all geometries and types."""

import pytest
import torch
from torch import nn

from mmdet_cbn.ops import ConvCall, batch_moments, mean_derivative, variance_derivative

GEOMETRIES = [
    {'kernel_size': (3, 3), 'padding': (1, 1)},
    {'kernel_size': (3, 3), 'stride': (2, 2), 'padding': (1, 1)},
    {'kernel_size': (1, 1)},
    {'kernel_size': (1, 1), 'stride': (2, 3)},
    {'kernel_size': (5, 2), 'stride': (3, 1), 'padding': (4, 0), 'dilation': (1, 3)},
    {'kernel_size': (3, 3), 'padding': (1, 1), 'groups': 2},
    {'kernel_size': (3, 3), 'dilation': (2, 2), 'groups': 4},
]


@pytest.mark.parametrize('geometry', GEOMETRIES)
def test_against_autograd(geometry):
    conv = nn.Conv2d(4, 8, **geometry, bias=False, dtype=torch.float64)
    x = torch.randn(3, 4, 11, 12, dtype=torch.float64) + 0.5
    y = conv(x)
    (of_mean,) = torch.autograd.grad(y.mean((0, 2, 3)).sum(), conv.weight, retain_graph=True)
    (of_var,) = torch.autograd.grad(y.var((0, 2, 3), unbiased=False).sum(), conv.weight)
    groups = geometry.get('groups', 1)
    y = y.detach()
    call = ConvCall(x, conv.weight, None, conv.stride, conv.padding, conv.dilation)
    p = mean_derivative(call, y.shape[2:])
    r = variance_derivative(call, y, batch_moments(y), p)
    expanded = p.repeat_interleave(8 // groups, 0)
    torch.testing.assert_close(expanded, of_mean.flatten(1), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(r, of_var.flatten(1), rtol=1e-10, atol=1e-12)


HALF = [pytest.param(torch.float16, 5e-3, marks=pytest.mark.float16), (torch.bfloat16, 2e-2)]


@pytest.mark.parametrize(('dtype', 'tolerance'), HALF)
def test_half_precision_neither_overflows_nor_vanishes(dtype, tolerance):
    """Over 100,000 positions: the plain sum of products is far beyond 65504."""
    x = (torch.randn(2, 4, 230, 230) * 3 + 4).to(dtype)
    weight = torch.randn(6, 4, 3, 3)
    y = nn.functional.conv2d(x.float(), weight, padding=1).to(dtype)
    call, exact_call = (ConvCall(inputs, weight, padding=(1, 1)) for inputs in (x, x.double()))
    p = mean_derivative(call, (230, 230))
    r = variance_derivative(call, y, batch_moments(y), p)
    exact_p = mean_derivative(exact_call, (230, 230))
    exact_r = variance_derivative(exact_call, y.double(), batch_moments(y.double()), exact_p)
    assert p.dtype == r.dtype == torch.float32
    torch.testing.assert_close(p.double(), exact_p, rtol=1e-5, atol=1e-5)
    assert (r - exact_r).norm() / exact_r.norm() < tolerance


def test_float32_input_is_converted_to_the_type_of_the_output():
    """Autocast hands a float32 input to a convolution that returns bfloat16."""
    call = ConvCall(torch.randn(2, 4, 8, 8), torch.randn(6, 4, 1, 1))
    y = torch.randn(2, 6, 8, 8).bfloat16()
    p = mean_derivative(call, (8, 8))
    assert variance_derivative(call, y, batch_moments(y), p).dtype == torch.float32
