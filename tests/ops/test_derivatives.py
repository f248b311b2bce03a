"""Derivatives of the statistics against autograd, in all geometries and types."""

import pytest
import torch
from torch import nn

from mmdet_cbn.ops import batch_moments, mean_derivative, variance_derivative

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
    mean, var = batch_moments(y)
    p = mean_derivative(x, y.shape[2:], **geometry)
    r = variance_derivative(x, y, mean, var, p, **geometry)
    expanded = p.repeat_interleave(8 // groups, 0)
    torch.testing.assert_close(expanded, of_mean.flatten(1), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(r, of_var.flatten(1), rtol=1e-10, atol=1e-12)


HALF = [pytest.param(torch.float16, 5e-3, marks=pytest.mark.float16), (torch.bfloat16, 2e-2)]


@pytest.mark.parametrize(('dtype', 'tolerance'), HALF)
def test_half_precision_neither_overflows_nor_vanishes(dtype, tolerance):
    """Over 100,000 positions: the plain sum of products is far beyond 65504."""
    x = (torch.randn(2, 4, 230, 230) * 3 + 4).to(dtype)
    y = nn.functional.conv2d(x.float(), torch.randn(6, 4, 3, 3), padding=1).to(dtype)
    geometry = {'kernel_size': (3, 3), 'padding': (1, 1)}
    mean, var = batch_moments(y)
    p = mean_derivative(x, (230, 230), **geometry)
    r = variance_derivative(x, y, mean, var, p, **geometry)
    exact_mean, exact_var = batch_moments(y.double())
    exact_p = mean_derivative(x.double(), (230, 230), **geometry)
    exact_r = variance_derivative(x.double(), y.double(), exact_mean, exact_var, exact_p, **geometry)
    assert p.dtype == r.dtype == torch.float32
    torch.testing.assert_close(p.double(), exact_p, rtol=1e-5, atol=1e-5)
    assert (r - exact_r).norm() / exact_r.norm() < tolerance


def test_float32_input_is_converted_to_the_type_of_the_output():
    """Autocast hands a float32 input to a convolution that returns bfloat16."""
    x = torch.randn(2, 4, 8, 8)
    y = torch.randn(2, 6, 8, 8).bfloat16()
    mean, var = batch_moments(y)
    p = mean_derivative(x, (8, 8), (1, 1))
    assert variance_derivative(x, y, mean, var, p, (1, 1)).dtype == torch.float32
