"""BRN against autograd through its formula, in float64."""

import pytest
import torch
from torch import nn

from mmdet_cbn.layers import BatchRenorm2d

CLOSE = {'rtol': 1e-9, 'atol': 1e-9}


@pytest.mark.parametrize('warmup', [0, 7])
def test_brn_is_the_papers(warmup):
    norm = BatchRenorm2d(5, r_max=1.3, d_max=0.4, warmup_iters=warmup, momentum=0.3, dtype=torch.float64)
    gamma = (torch.rand(5, dtype=torch.float64) + 0.5).requires_grad_()
    beta = torch.randn(5, dtype=torch.float64, requires_grad=True)
    norm.weight.data.copy_(gamma.detach())
    norm.bias.data.copy_(beta.detach())
    mean_hat, var_hat = torch.zeros(5, dtype=torch.float64), torch.ones(5, dtype=torch.float64)
    clipped = 0
    for step in range(20):
        x = torch.randn(2, 5, 3, 4, dtype=torch.float64) * (1 + step % 3) + step % 4
        a, b = (x.clone().requires_grad_() for _ in range(2))
        target = torch.randn_like(x)
        done = min(step / warmup, 1) if warmup else 1
        r_limit, d_limit = 1 + 0.3 * done, 0.4 * done

        mean, var = b.mean((0, 2, 3)), b.var((0, 2, 3), unbiased=False)
        std, std_hat = (var + 1e-5).sqrt(), (var_hat + 1e-5).sqrt()
        r_raw, d_raw = (std / std_hat).detach(), ((mean - mean_hat) / std_hat).detach()
        clipped += int((r_raw > r_limit).sum() + (d_raw > d_limit).sum())
        r, d = r_raw.clamp(1 / r_limit, r_limit), d_raw.clamp(-d_limit, d_limit)
        view = (1, -1, 1, 1)
        expected = (b - mean.view(view)) / std.view(view) * r.view(view) + d.view(view)
        expected = gamma.view(view) * expected + beta.view(view)
        mean_hat = 0.7 * mean_hat + 0.3 * mean.detach()
        var_hat = 0.7 * var_hat + 0.3 * x.var((0, 2, 3))

        out = norm(a)
        norm.zero_grad()
        gamma.grad = beta.grad = None
        ((out - target) ** 2).sum().backward()
        ((expected - target) ** 2).sum().backward()
        torch.testing.assert_close(out, expected, **CLOSE)
        torch.testing.assert_close(a.grad, b.grad, **CLOSE)
        torch.testing.assert_close(norm.weight.grad, gamma.grad, **CLOSE)
        torch.testing.assert_close(norm.bias.grad, beta.grad, **CLOSE)
        torch.testing.assert_close(norm.running_mean, mean_hat, **CLOSE)
        torch.testing.assert_close(norm.running_var, var_hat, **CLOSE)
    assert clipped > 20


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
