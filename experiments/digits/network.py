"""The convolutional network of the study."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import nn

from mmdet_cbn.layers import pair_conv_norm

from .task import CLASSES

# Channels and stride of the 3 x 3 convolutions, from 32 x 32 pixels to 8 x 8.
LAYERS = ((16, 2), (16, 1), (32, 2), (32, 1), (32, 1), (32, 1))


def build_network(
    norm: Callable[[int], nn.Module],
    conv: Callable[..., nn.Conv2d] = nn.Conv2d,
    seed: int = 0,
) -> nn.Sequential:
    """Build a network of six convolutions, each followed by a norm and ReLU, pooling and a linear layer.

    Cross-iteration layers are paired with their convolutions. The initial weights depend on the seed alone:
    they are the same for all norms, and the global random state stays as it is.

    Args:
        norm: Makes the norm for a number of channels.
        conv: ``nn.Conv2d``, or a class like it such as ``CenteredConv2d``.
        seed: Of the initial weights.

    Returns:
        A network from images (N, 1, H, W) to class scores (N, 10).
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        blocks, width = [], 1
        for channels, stride in LAYERS:
            layer = conv(width, channels, 3, stride, padding=1, bias=False)
            nn.init.kaiming_normal_(layer.weight, nonlinearity='relu')
            blocks.append(nn.Sequential(layer, norm(channels), nn.ReLU()))
            width = channels
        head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, CLASSES))
    network = nn.Sequential(*blocks, *head)
    pair_conv_norm(network)
    return network


def make_replicas(network: nn.Module, count: int) -> list[nn.Module]:
    """Return ``network`` and copies of it that have its parameters, but norm states of their own.

    They are the workers of data-parallel training, simulated in one process.
    """
    shared = {id(parameter): parameter for parameter in network.parameters()}
    return [network, *(deepcopy(network, dict(shared)) for _ in range(count - 1))]
