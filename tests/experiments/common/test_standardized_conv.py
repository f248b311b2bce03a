"""Weight standardization against its formula, filter by filter, and against mmcv's."""

import pytest
import torch
from torch.nn import functional as F

from experiments.common.standardized_conv import StandardizedConv2d


def layers_input(conv):
    with torch.no_grad():
        conv.weight.mul_(3).add_(1)
    return torch.randn(2, conv.in_channels, 7, 9, dtype=conv.weight.dtype)


@pytest.mark.parametrize('arguments', [{}, {'groups': 2, 'bias': False, 'stride': 2, 'padding': 1}])
def test_formula(arguments):
    conv = StandardizedConv2d(4, 6, 3, dtype=torch.float64, **arguments)
    x = layers_input(conv)
    weight = conv.weight.detach().clone().requires_grad_()
    filters = []
    for values in weight:
        mean = values.sum() / values.numel()
        variance = (values - mean).square().sum() / (values.numel() - 1)
        filters.append((values - mean) / (variance.sqrt() + 1e-5))
    expected = F.conv2d(x, torch.stack(filters), conv.bias, conv.stride, conv.padding, 1, conv.groups)
    out = conv(x)
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)
    grad = torch.randn_like(out)
    torch.testing.assert_close(
        torch.autograd.grad(out, conv.weight, grad)[0],
        torch.autograd.grad(expected, weight, grad)[0],
        rtol=1e-10,
        atol=1e-12,
    )


def test_it_is_what_a_user_of_mmcv_takes():
    cnn = pytest.importorskip('mmcv.cnn')
    conv, theirs = StandardizedConv2d(4, 6, 3, padding=1), cnn.ConvWS2d(4, 6, 3, padding=1)
    x = layers_input(conv)
    theirs.load_state_dict(conv.state_dict())
    torch.testing.assert_close(conv(x), theirs(x), rtol=1e-6, atol=1e-6)
