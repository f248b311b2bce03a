"""Each norm behind a convolution, 4 to 6 channels, and a training of a few steps."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

from mmdet_cbn.layers import pair_conv_norm
from tests.helpers.norms import NORMS

LAYERS = {name: partial(norm, 6) for name, norm in NORMS.items()}
every_layer = pytest.mark.parametrize('make', LAYERS.values(), ids=LAYERS)


def make_block(make: Callable[[], nn.Module], **conv: object) -> nn.Sequential:
    """Return a convolution and the norm that is made, paired."""
    block = nn.Sequential(nn.Conv2d(4, 6, **{'kernel_size': 3, 'padding': 1, 'bias': False, **conv}), make())
    pair_conv_norm(block)
    return block


def train(block: nn.Module, steps: int, lr: float = 1e-3) -> None:
    """Train on noise of the type of the weights."""
    optimizer = torch.optim.SGD(block.parameters(), lr)
    for _ in range(steps):
        optimizer.zero_grad()
        x = torch.randn(2, 4, 7, 8, dtype=block[0].weight.dtype)
        block(x).pow(2).sum().backward()
        optimizer.step()
