"""Training a layer and its oracle side by side, in float64."""

from copy import deepcopy

import torch
from torch import nn

from mmdet_cbn.layers import pair_conv_norm
from tests.helpers.literal_cbn import LiteralCBN

CLOSE = {'rtol': 1e-9, 'atol': 1e-9}
GEOMETRIES = {
    '3x3': {'kernel_size': 3, 'padding': 1},
    'stride': {'kernel_size': 3, 'stride': 2, 'padding': 1},
    'stride without padding': {'kernel_size': 3, 'stride': (3, 2)},
    'dilation': {'kernel_size': 3, 'dilation': 2, 'padding': 2},
    'groups': {'kernel_size': 3, 'padding': 1, 'groups': 2},
    'depthwise': {'kernel_size': 3, 'padding': 1, 'groups': 4, 'out_channels': 8},
    '1x1': {'kernel_size': 1},
    'bias': {'kernel_size': 3, 'padding': 1, 'bias': True},
    'rectangle': {'kernel_size': (1, 4), 'stride': (2, 1), 'padding': (0, 2), 'dilation': (1, 2)},
    'same': {'kernel_size': (2, 4), 'padding': 'same'},
    'valid': {'kernel_size': 3, 'padding': 'valid'},
    'reflect': {'kernel_size': 3, 'padding': 1, 'padding_mode': 'reflect'},
    'circular with bias': {'kernel_size': 3, 'padding': (1, 2), 'padding_mode': 'circular', 'bias': True},
}


def make_conv(geometry: dict) -> nn.Conv2d:
    arguments = {'in_channels': 4, 'out_channels': 6, 'bias': False, **geometry}
    return nn.Conv2d(**arguments, dtype=torch.float64)


def follow(norm: nn.Module, conv: nn.Conv2d, oracle: LiteralCBN, lr: float, steps: int = 12) -> None:
    """Train layer and oracle side by side on the same data, each with weights of its own."""
    block = nn.Sequential(conv, norm)
    pair_conv_norm(block)
    other = deepcopy(conv)
    other._forward_hooks.clear()
    optimizer = torch.optim.SGD(block.parameters(), lr, momentum=0.9)
    other_optimizer = torch.optim.SGD([*other.parameters(), oracle.gamma, oracle.beta], lr, momentum=0.9)
    for step in range(steps):
        x = torch.randn(2, 4, 9, 8, dtype=torch.float64) + 0.3 * step
        x, other_x = x.clone().requires_grad_(), x.clone().requires_grad_()
        out, expected = block(x), oracle(other(other_x), other)
        torch.testing.assert_close(out, expected, **CLOSE)
        target = torch.randn_like(out)
        for loss, opt in ((out, optimizer), (expected, other_optimizer)):
            opt.zero_grad()
            ((loss - target) ** 2).mean().backward()
        torch.testing.assert_close(x.grad, other_x.grad, **CLOSE)
        torch.testing.assert_close(conv.weight.grad, other.weight.grad, **CLOSE)
        if conv.bias is not None:
            torch.testing.assert_close(conv.bias.grad, other.bias.grad, **CLOSE)
        torch.testing.assert_close(norm.weight.grad, oracle.gamma.grad, **CLOSE)
        torch.testing.assert_close(norm.bias.grad, oracle.beta.grad, **CLOSE)
        torch.testing.assert_close(norm.running_mean, oracle.running_mean, **CLOSE)
        torch.testing.assert_close(norm.running_var, oracle.running_var, **CLOSE)
        optimizer.step()
        other_optimizer.step()
