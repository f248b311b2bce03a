"""Norms over groups of a batch, against the formulas of a loop over the groups, in float64."""

import pytest
import torch
from torch import Tensor, nn

from mmdet_cbn.layers import GhostBatchNorm2d, GhostBatchRenorm2d, GhostMovingAverageBatchNorm2d

CLOSE = {'rtol': 1e-9, 'atol': 1e-9}
EPS = 1e-5


def column(values: Tensor) -> Tensor:
    return values[:, None, None]


class LiteralBRN:
    """BRN (BN with ``r_max`` 1 and ``d_max`` 0), whose gradients autograd finds."""

    def __init__(self, momentum: float, r_max: float, d_max: float, warmup: int) -> None:
        self.momentum, self.r_max, self.d_max, self.warmup = momentum, r_max, d_max, warmup
        self.mean_hat, self.var_hat, self.calls = torch.zeros(3), torch.ones(3), 0

    def step(self, groups: list[Tensor], grads: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        outputs, gradients = [], []
        for x, grad in zip(groups, grads, strict=True):
            x = x.clone().requires_grad_()
            mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
            done = min(self.calls / self.warmup, 1)
            r_limit, d_limit = 1 + (self.r_max - 1) * done, self.d_max * done
            std, std_hat = (var + EPS).sqrt(), (self.var_hat + EPS).sqrt()
            r = (std / std_hat).detach().clamp(1 / r_limit, r_limit)
            d = ((mean - self.mean_hat) / std_hat).detach().clamp(-d_limit, d_limit)
            out = (x - column(mean)) / column(std) * column(r) + column(d)
            gradients.append(torch.autograd.grad(out, x, grad)[0])
            outputs.append(out.detach())
            self.mean_hat = self.mean_hat.lerp(mean.detach(), self.momentum)
            self.var_hat = self.var_hat.lerp(x.detach().var((0, 2, 3)), self.momentum)
            self.calls += 1
        return outputs, gradients

    def running(self) -> tuple[Tensor, Tensor]:
        return self.mean_hat, self.var_hat


class LiteralMABN:
    """Equations 19 and 20, forward over the groups and backward from the last to the first."""

    def __init__(self, momentum: float, m: int, warmup: int) -> None:
        self.momentum, self.m, self.warmup = momentum, m, warmup
        self.chi2_hat, self.chi2s, self.psis, self.calls = torch.ones(3), {}, {}, 0

    def latest(self, values: dict[int, Tensor], call: int) -> Tensor:
        """Average of the place of this call and of the m - 1 other places, whatever was put there last."""
        places = {}
        for number in values:
            places[number % self.m] = values[number]
        places[call % self.m] = values[call]
        return sum(places.values()) / len(places)

    def step(self, groups: list[Tensor], grads: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        used, outputs = [], []
        for x in groups:
            self.calls += 1
            self.chi2s[self.calls] = (x * x).mean((0, 2, 3))
            averaging = self.calls >= self.warmup
            chi2 = self.latest(self.chi2s, self.calls) if averaging else self.chi2s[self.calls]
            std = (chi2 + EPS).sqrt()
            r = std / (self.chi2_hat + EPS).sqrt() if self.calls > 1000 else torch.ones(3)
            r = r.clamp(1 / 5, 5)
            self.chi2_hat = self.chi2_hat.lerp(chi2, self.momentum)
            outputs.append(column(r) * x / column(std))
            used.append((self.calls, averaging, x / column(std), std, r))
        gradients = []
        for (call, averaging, z, std, r), grad in reversed(list(zip(used, grads, strict=True))):
            g = column(r) * grad
            self.psis[call] = (g * z).mean((0, 2, 3))
            psi = self.latest(self.psis, call) if averaging else self.psis[call]
            gradients.append((g - z * column(psi)) / column(std))
        return outputs, gradients[::-1]

    def running(self) -> tuple[Tensor, Tensor]:
        return torch.zeros(3), self.chi2_hat


CASES = {
    'BN': (GhostBatchNorm2d, {'momentum': 0.3}, lambda: LiteralBRN(0.3, 1, 0, 1)),
    'BRN': (
        GhostBatchRenorm2d,
        {'momentum': 0.3, 'r_max': 1.3, 'd_max': 0.4, 'warmup_iters': 7},
        lambda: LiteralBRN(0.3, 1.3, 0.4, 7),
    ),
    'MABN': (
        GhostMovingAverageBatchNorm2d,
        {'buffer_size': 5, 'warmup_iters': 12},
        lambda: LiteralMABN(0.02, 5, 12),
    ),
    'MABN, more groups in a batch than in the buffer': (
        GhostMovingAverageBatchNorm2d,
        {'buffer_size': 2, 'warmup_iters': 12},
        lambda: LiteralMABN(0.02, 2, 12),
    ),
}


@pytest.mark.parametrize('kind', CASES)
def test_loop_over_the_groups(kind: str):
    torch.set_default_dtype(torch.float64)
    try:
        layer, arguments, literal = CASES[kind]
        norm, oracle = layer(3, norm_batch_size=2, **arguments), literal()
        norm.weight.data.uniform_(0.5, 1.5)
        norm.bias.data.normal_()
        gamma, beta = norm.weight.detach(), norm.bias.detach()
        steps = 8 if 'MABN' not in kind else 340  # r is in use from the 1,001st group on
        for step in range(steps):
            x = (torch.randn(6, 3, 2, 2) * (1 + step % 3) + step % 2).requires_grad_()
            grad = torch.randn(6, 3, 2, 2)
            out = norm(x)
            norm.zero_grad()
            out.backward(grad)
            groups = list(x.detach().split(2))
            outputs, gradients = oracle.step(groups, list((grad * column(gamma)).split(2)))
            normalized = torch.cat(outputs)
            torch.testing.assert_close(out, normalized * column(gamma) + column(beta), **CLOSE)
            torch.testing.assert_close(x.grad, torch.cat(gradients), **CLOSE)
            torch.testing.assert_close(norm.weight.grad, (grad * normalized).sum((0, 2, 3)), **CLOSE)
            torch.testing.assert_close(norm.bias.grad, grad.sum((0, 2, 3)), **CLOSE)
        for found, expected in zip((norm.running_mean, norm.running_var), oracle.running(), strict=True):
            torch.testing.assert_close(found, expected, **CLOSE)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize('kind', CASES)
def test_groups_do_not_see_each_other_in_evaluation(kind: str):
    layer, arguments, _ = CASES[kind]
    norm = layer(3, norm_batch_size=2, **arguments)
    norm(torch.randn(6, 3, 4, 4) + 1)
    bn = nn.BatchNorm2d(3)
    bn.load_state_dict({key: value for key, value in norm.state_dict().items() if key in bn.state_dict()})
    x = torch.randn(5, 3, 4, 4)
    torch.testing.assert_close(norm.eval()(x), bn.eval()(x))


def test_last_group_holds_what_is_left():
    norm, bn = GhostBatchNorm2d(3, norm_batch_size=2, momentum=0.3), nn.BatchNorm2d(3, momentum=0.3)
    x = torch.randn(5, 3, 4, 4)
    torch.testing.assert_close(norm(x), torch.cat([bn(x[:2]), bn(x[2:4]), bn(x[4:])]))
    torch.testing.assert_close(norm.running_var, bn.running_var)


@pytest.mark.parametrize('size', [0, 1.5, None])
def test_size_of_a_group_is_checked(size):
    with pytest.raises(ValueError, match='norm_batch_size'):
        GhostBatchNorm2d(3, norm_batch_size=size)
