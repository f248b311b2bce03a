"""The network of the study."""

import pytest
import torch
from torch import nn

from experiments.digits.network import build_network, make_replicas
from experiments.digits.norms import COMPETITORS, make_norm
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


@pytest.mark.parametrize('method', COMPETITORS)
def test_replicas_train_as_processes_do(method):
    """Gradients are the mean of those of separate networks, which have norm states of their own."""

    def make():
        norm = make_norm(method, 3, 1, 10)
        return build_network(norm, COMPETITORS[method].conv, seed=1).double().train()

    workers, separate = make_replicas(make(), 3), [make() for _ in range(3)]
    shared = list(workers[0].parameters())
    images = torch.rand(5, 3, 2, 1, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for step in images:
        sum(worker(x).square().mean() / 3 for worker, x in zip(workers, step, strict=True)).backward()
        for network, x in zip(separate, step, strict=True):
            network(x).square().mean().backward()
        with torch.no_grad():
            for parameter, *others in zip(shared, *(n.parameters() for n in separate), strict=True):
                grad = torch.stack([other.grad for other in others]).mean(0)
                torch.testing.assert_close(parameter.grad, grad, rtol=1e-8, atol=1e-10)
                for one in (parameter, *others):
                    one -= 0.01 * grad
                    one.grad = None
    for worker, network in zip(workers, separate, strict=True):
        expected = dict(network.named_buffers())
        for name, buffer in worker.named_buffers():
            scale = 3 if 'psi' in name else 1  # which is of gradients, here of a third of the loss
            torch.testing.assert_close(scale * buffer, expected[name])


def test_scores():
    assert build_network(nn.BatchNorm2d)(torch.rand(3, 1, 32, 32)).shape == (3, 10)
