"""BRN against autograd through its formula, in float64."""

import pytest
import torch
from torch import nn

from mmdet_cbn.layers import BatchRenorm2d
from tests.helpers.literal_brn import LiteralBRN

CLOSE = {'rtol': 1e-9, 'atol': 1e-9}


@pytest.mark.parametrize('warmup', [0, 7])
def test_brn_is_the_papers(warmup):
    norm = BatchRenorm2d(5, r_max=1.3, d_max=0.4, warmup_iters=warmup, momentum=0.3, dtype=torch.float64)
    oracle = LiteralBRN(5, warmup, r_max=1.3, d_max=0.4, momentum=0.3)
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    nn.init.normal_(norm.bias)
    oracle.gamma, oracle.beta = (p.detach().clone().requires_grad_() for p in (norm.weight, norm.bias))
    for step in range(20):
        x = torch.randn(2, 5, 3, 4, dtype=torch.float64) * (1 + step % 3) + step % 4
        a, b = (x.clone().requires_grad_() for _ in range(2))
        target = torch.randn_like(x)
        out, expected = norm(a), oracle(b)
        norm.zero_grad()
        oracle.gamma.grad = oracle.beta.grad = None
        ((out - target) ** 2).sum().backward()
        ((expected - target) ** 2).sum().backward()
        torch.testing.assert_close(out, expected, **CLOSE)
        torch.testing.assert_close(a.grad, b.grad, **CLOSE)
        torch.testing.assert_close(norm.weight.grad, oracle.gamma.grad, **CLOSE)
        torch.testing.assert_close(norm.bias.grad, oracle.beta.grad, **CLOSE)
        torch.testing.assert_close(norm.running_mean, oracle.running_mean, **CLOSE)
        torch.testing.assert_close(norm.running_var, oracle.running_var, **CLOSE)
    assert oracle.clipped > 20


def test_starts_as_bn():
    norm, bn = BatchRenorm2d(5, warmup_iters=100), nn.BatchNorm2d(5)
    x = torch.randn(2, 5, 4, 4) * 3 + 1
    torch.testing.assert_close(norm(x), bn(x))


@pytest.mark.parametrize('change', [{'momentum': None}, {'track_running_stats': False}])
def test_running_statistics_are_required(change):
    with pytest.raises(ValueError, match='running statistics'):
        BatchRenorm2d(3, **change)


def test_one_value_per_channel_raises_as_bn_does():
    with pytest.raises(ValueError, match='Expected more than 1 value per channel'):
        BatchRenorm2d(3)(torch.randn(1, 3, 1, 1))
