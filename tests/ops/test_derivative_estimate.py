"""The derivative from part of the positions: exact for that part, and right about rescaled filters."""

import pytest
import torch
from torch.nn import functional as F

from mmdet_cbn.ops import ConvCall, batch_moments, estimate_variance_derivative

# N, H, W, kernel, stride, padding, dilation, groups, fraction; and the images and rows that it uses.
CASES = [
    ((32, 7, 6), (3, 3), (1, 1), (1, 1), (1, 1), 1, 1 / 8, slice(4, None, 8), slice(None)),
    ((31, 7, 6), (3, 3), (1, 1), (1, 1), (1, 1), 1, 1 / 8, slice(3, None, 7), slice(None)),
    ((2, 25, 9), (1, 1), (1, 1), (0, 0), (1, 1), 1, 1 / 8, slice(None), slice(3, 25, 8)),
    ((2, 30, 9), (3, 2), (1, 2), (1, 0), (1, 1), 2, 1 / 4, slice(None), slice(2, 29, 4)),
    ((1, 40, 11), (3, 3), (2, 1), (1, 2), (1, 2), 1, 1 / 3, slice(None), slice(2, 20, 3)),
    ((2, 40, 11), (5, 3), (1, 1), (4, 1), (2, 1), 1, 1 / 4, slice(None), slice(5, 36, 4)),
    ((2, 4, 4), (3, 3), (1, 1), (1, 1), (1, 1), 1, 1 / 8, slice(None), slice(None)),
]


def make(case):
    (images, height, width), kernel, stride, padding, dilation, groups, fraction, *part = case
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(images, 4, height, width, generator=generator, dtype=torch.float64) + 1
    weight = torch.randn(6, 4 // groups, *kernel, generator=generator, dtype=torch.float64)
    geometry = {'stride': stride, 'padding': padding, 'dilation': dilation, 'groups': groups}
    y = F.conv2d(x, weight, **geometry)
    call = ConvCall(x, weight, None, stride, padding, dilation)
    estimate = estimate_variance_derivative(call, y, batch_moments(y).var, fraction)
    return x, weight, geometry, y, estimate, part


@pytest.mark.parametrize('case', CASES)
def test_it_is_the_scaled_derivative_of_the_variance_of_the_part(case):
    x, weight, geometry, y, estimate, (images, rows) = make(case)
    weight.requires_grad_()
    part = F.conv2d(x, weight, **geometry)[images, :, rows]
    assert part.numel() <= y.numel()
    var = part.var((0, 2, 3), correction=0)
    (derivative,) = torch.autograd.grad(var.sum(), weight)
    scale = y.var((0, 2, 3), correction=0) / var.detach()
    torch.testing.assert_close(estimate, scale[:, None] * derivative.flatten(1), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('case', CASES)
def test_rescaling_a_filter_is_corrected_without_error(case):
    _, weight, _, y, estimate, _ = make(case)
    var = y.var((0, 2, 3), correction=0)
    torch.testing.assert_close((estimate * weight.flatten(1)).sum(1), 2 * var, rtol=1e-9, atol=0)


def test_channels_that_are_constant_stay_finite():
    x = torch.randn(2, 3, 20, 20)
    weight = torch.zeros(4, 3, 3, 3)
    y = F.conv2d(x, weight, padding=1)
    y[0, 1, 0, 0] = 5  # seen by the whole, not by the part
    call = ConvCall(x, weight, padding=(1, 1))
    estimate = estimate_variance_derivative(call, y, batch_moments(y).var, 1 / 4)
    assert torch.equal(estimate, torch.zeros(4, 27))


def test_a_part_that_hardly_varies_is_not_blown_up():
    """All variance is in the first row, which the rows that are used do not see: at most 4 times its own."""
    torch.manual_seed(0)
    x = 1e-3 * torch.randn(2, 3, 30, 9, dtype=torch.float64)
    x[:, :, 0] += 100
    weight = torch.randn(4, 3, 1, 1, dtype=torch.float64)
    y = F.conv2d(x, weight)
    estimate = estimate_variance_derivative(ConvCall(x, weight), y, batch_moments(y).var, 1 / 4)
    weight.requires_grad_()
    part = F.conv2d(x, weight)[:, :, 1::4]
    (derivative,) = torch.autograd.grad(part.var((0, 2, 3), correction=0).sum(), weight)
    assert estimate.norm() < 8 * derivative.norm()
