"""Derivatives of the statistics against autograd, in all geometries and types."""

import pytest
import torch
from torch import nn

from mmdet_cbn.ops import (
    ConvCall,
    Derivatives,
    PastMoments,
    batch_moments,
    compensation,
    derivatives,
    intercepts,
    mean_derivative,
    move_centre,
    variance_derivative,
)

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


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
def test_pointwise_convolutions_of_large_maps(memory_format):
    conv = nn.Conv2d(3, 5, 1, bias=False, dtype=torch.float64)
    x = torch.randn(2, 3, 17, 19, dtype=torch.float64).to(memory_format=memory_format)
    y = conv(x)
    (expected,) = torch.autograd.grad(y.var((0, 2, 3), correction=0).sum(), conv.weight)
    y, call = y.detach(), ConvCall(x, conv.weight.detach())
    r = variance_derivative(call, y, batch_moments(y), mean_derivative(call, y.shape[2:]))
    torch.testing.assert_close(r, expected.flatten(1), rtol=1e-10, atol=1e-12)


def test_about_a_centre_it_is_the_derivative_of_the_mean_of_squares():
    conv = nn.Conv2d(4, 6, 3, padding=1, groups=2, dtype=torch.float64)
    x = torch.randn(3, 4, 7, 6, dtype=torch.float64) + 0.5
    y, centre = conv(x), torch.randn(6, dtype=torch.float64)
    squares = (y - centre[:, None, None]).square().mean((0, 2, 3))
    (expected,) = torch.autograd.grad(squares.sum(), conv.weight)
    y = y.detach()
    call = ConvCall(x, conv.weight.detach(), None, padding=(1, 1))
    p = mean_derivative(call, y.shape[2:])
    moments = batch_moments(y)
    about_the_mean = variance_derivative(call, y, moments, p)
    moved = move_centre(about_the_mean.clone(), p, moments.mean, centre)
    for found in (variance_derivative(call, y, moments, p, centre), moved):
        torch.testing.assert_close(found, expected.flatten(1), rtol=1e-10, atol=1e-12)


def test_where_products_may_be_rounded_they_are_not_taken(monkeypatch):
    """The forms for GPUs and for CPUs with bfloat16 compute the same."""
    conv = nn.Conv2d(4, 6, 3, groups=2, dtype=torch.float64)
    x = torch.randn(3, 4, 7, 6, dtype=torch.float64)
    y = conv(x).detach()
    call, moments = ConvCall(x, conv.weight.detach()), batch_moments(y)
    p = mean_derivative(call, y.shape[2:])
    rows = PastMoments(*(moment[:, None] for moment in moments))
    found = []
    for exact in (True, False):
        for module in (derivatives, compensation):
            monkeypatch.setattr(module, 'products_are_exact', lambda like, exact=exact: exact)
        r = variance_derivative(call, y, moments, p, moments.mean + 1)
        held = Derivatives(p[:, None], r[:, None])
        found.append([r, *intercepts(rows, held, call.theta, moments.mean)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


HALF = [pytest.param(torch.float16, 5e-3, marks=pytest.mark.float16), (torch.bfloat16, 2e-2)]


@pytest.mark.parametrize(('dtype', 'tolerance'), HALF)
def test_half_precision_neither_overflows_nor_vanishes(dtype, tolerance):
    """Over 100,000 positions: the plain sum of products is far beyond 65504."""
    x = (torch.randn(2, 4, 230, 230) * 3 + 4).to(dtype)
    weight = torch.randn(6, 4, 3, 3)
    y = nn.functional.conv2d(x.float(), weight, padding=1).to(dtype)
    call, exact_call = (ConvCall(inputs, weight, padding=(1, 1)) for inputs in (x, x.double()))
    p = mean_derivative(call, (230, 230))
    exact_p = mean_derivative(exact_call, (230, 230))
    torch.testing.assert_close(p.double(), exact_p, rtol=1e-5, atol=1e-5)
    for centre in (None, torch.linspace(-20, 20, 6)):
        r = variance_derivative(call, y, batch_moments(y), p, centre)
        exact_centre = None if centre is None else centre.double()
        moments = batch_moments(y.double())
        exact_r = variance_derivative(exact_call, y.double(), moments, exact_p, exact_centre)
        assert p.dtype == r.dtype == torch.float32
        assert (r - exact_r).norm() / exact_r.norm() < tolerance


def test_float32_input_is_converted_to_the_type_of_the_output():
    """Autocast hands a float32 input to a convolution that returns bfloat16."""
    call = ConvCall(torch.randn(2, 4, 8, 8), torch.randn(6, 4, 1, 1))
    y = torch.randn(2, 6, 8, 8).bfloat16()
    p = mean_derivative(call, (8, 8))
    assert variance_derivative(call, y, batch_moments(y), p).dtype == torch.float32
