"""The network of the study."""

import torch
from torch import nn

from experiments.digits.network import build_network
from mmdet_cbn.layers import CenteredConv2d, CrossIterationBatchNorm2d


def test_all_norms_start_from_the_same_weights():
    networks = [
        build_network(nn.BatchNorm2d, seed=3),
        build_network(CrossIterationBatchNorm2d, seed=3),
        build_network(lambda channels: nn.Identity(), CenteredConv2d, seed=3),
    ]
    weights = [[p for p in network.parameters() if p.dim() > 1] for network in networks]
    assert len(weights[0]) == 7
    for others in weights[1:]:
        assert all(map(torch.equal, weights[0], others))
    assert not torch.equal(next(build_network(nn.BatchNorm2d, seed=4).parameters()), weights[0][0])


def test_the_global_random_state_stays():
    before = torch.get_rng_state()
    build_network(nn.BatchNorm2d, seed=5)
    assert torch.equal(torch.get_rng_state(), before)


def test_cross_iteration_layers_are_paired():
    network = build_network(CrossIterationBatchNorm2d)
    network(torch.rand(2, 1, 32, 32)).sum().backward()
    norms = [module for module in network.modules() if isinstance(module, CrossIterationBatchNorm2d)]
    assert len(norms) == 6
    assert all(norm.pair_names for norm in norms)


def test_scores():
    assert build_network(nn.BatchNorm2d)(torch.rand(3, 1, 32, 32)).shape == (3, 10)
