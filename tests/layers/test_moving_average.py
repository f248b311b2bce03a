"""MABN against its formulas written out on plain lists, in float64."""

from collections.abc import Collection

import pytest
import torch
from torch import Tensor, nn

from mmdet_cbn.layers import CenteredConv2d, MovingAverageBatchNorm2d

CLOSE = {'rtol': 1e-9, 'atol': 1e-9}


class LiteralMABN:
    """Equations 19 and 20 of MABN with the released layer's running value; forward and backward by hand.

    ``forward`` and ``backward`` are the ablations: which statistics take the place of the batch's.
    """

    def __init__(
        self,
        channels: int,
        m: int,
        warmup: int,
        r_max: float,
        momentum: float,
        forward: str = 'ema',
        backward: str = 'sma',
    ) -> None:
        self.forward, self.backward = forward, backward
        self.gamma = torch.rand(channels, dtype=torch.float64) + 0.5
        self.beta = torch.randn(channels, dtype=torch.float64)
        self.chi2_hat = torch.ones(channels, dtype=torch.float64)
        self.m, self.warmup, self.r_max, self.momentum = m, warmup, r_max, momentum
        self.chi2s, self.psis, self.t, self.clipped = [], [], 0, 0

    def step(self, x: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
        """Return the output and the gradients of x, gamma and beta."""

        def column(v: Tensor) -> Tensor:
            return v.view(1, -1, 1, 1)

        eps, positions = 1e-5, (0, 2, 3)
        self.t += 1
        averaging = self.t > self.m and self.t >= self.warmup
        self.chi2s = [*self.chi2s, (x * x).mean(positions)][-self.m :]
        moving = averaging and self.forward != 'batch'
        chi2_bar = sum(self.chi2s) / len(self.chi2s) if moving else self.chi2s[-1]
        z = x / column(chi2_bar + eps).sqrt()
        r = (chi2_bar + eps).sqrt() / (self.chi2_hat + eps).sqrt()
        self.clipped += int(((r < 1 / self.r_max) | (r > self.r_max)).sum())
        renormalizing = self.forward == 'ema' and self.t > max(1000, self.warmup)
        r = r.clamp(1 / self.r_max, self.r_max) if renormalizing else torch.ones_like(r)
        self.chi2_hat = (1 - self.momentum) * self.chi2_hat + self.momentum * chi2_bar
        out = column(self.gamma * r) * z + column(self.beta)

        g = column(self.gamma * r) * grad
        self.psis = [*self.psis, (g * z).mean(positions)]
        psi_bar = self.psis[-1]
        if averaging and self.backward == 'sma':
            psi_bar = sum(self.psis[-self.m :]) / self.m
        elif averaging and self.backward == 'ema':
            psi_bar = 0
            for t, psi in enumerate(self.psis, 1):
                share = max(1 / t, self.momentum)
                psi_bar = (1 - share) * psi_bar + share * psi
        grad_x = (g - z * column(psi_bar)) / column(chi2_bar + eps).sqrt()
        return out, grad_x, (grad * column(r) * z).sum(positions), grad.sum(positions)


@pytest.mark.parametrize(
    ('m', 'warmup', 'steps'), [(4, 2, 1030), (1, 0, 20), (16, 100, 130), (3, 1010, 1030)]
)
def test_mabn_is_the_papers(m, warmup, steps):
    oracle = LiteralMABN(5, m, warmup, r_max=1.2, momentum=0.02)
    norm = MovingAverageBatchNorm2d(5, buffer_size=m, warmup_iters=warmup, r_max=1.2, dtype=torch.float64)
    follow(norm, oracle, steps)


@pytest.mark.parametrize('forward', ['ema', 'sma', 'batch'])
@pytest.mark.parametrize('backward', ['sma', 'ema', 'batch'])
def test_ablations_are_their_formulas(forward, backward):
    oracle = LiteralMABN(5, 4, 6, 1.2, 0.1, forward, backward)
    norm = MovingAverageBatchNorm2d(
        5,
        buffer_size=4,
        warmup_iters=6,
        r_max=1.2,
        momentum=0.1,
        forward_statistics=forward,
        backward_statistics=backward,
        dtype=torch.float64,
    )
    follow(norm, oracle, 1010 if forward == 'ema' and backward == 'batch' else 30)


def test_calls_that_are_not_finite_do_not_count_towards_the_first_thousand():
    oracle = LiteralMABN(5, 4, 2, r_max=1.2, momentum=0.02)
    norm = MovingAverageBatchNorm2d(5, buffer_size=4, warmup_iters=2, r_max=1.2, dtype=torch.float64)
    follow(norm, oracle, 1030, bad={3, 500, 997, 999, 1000, 1001, 1002, 1015})
    assert norm.iterations == 1030


def test_a_loaded_layer_goes_on_where_the_saved_one_stood():
    """Before and after the stage from which on all averages are in use."""
    for done in (900, 2000):
        norm = MovingAverageBatchNorm2d(5, buffer_size=4, r_max=1.2, dtype=torch.float64)
        for _ in range(6):
            norm(torch.randn(2, 5, 3, 4, dtype=torch.float64)).sum().backward()
        norm.load_state_dict({**norm.state_dict(), 'iterations': torch.tensor(done)})
        twin = MovingAverageBatchNorm2d(5, buffer_size=4, r_max=1.2, dtype=torch.float64)
        for _ in range(1100 if done == 900 else 1):
            twin(torch.randn(2, 5, 3, 4, dtype=torch.float64))
        twin.load_state_dict(norm.state_dict())
        x = torch.randn(2, 5, 3, 4, dtype=torch.float64)
        out = twin(x)
        assert torch.equal(out, norm(x))
        r = out / (x / (norm.chi2_buffer.mean(0) + norm.eps).view(1, -1, 1, 1).sqrt())
        assert ((r - 1).abs().amax((0, 2, 3)) < 1e-9).all() == (done == 900)


def test_a_buffer_longer_than_the_first_thousand_fills_before_it_is_averaged():
    norm = MovingAverageBatchNorm2d(5, buffer_size=1200, warmup_iters=0, dtype=torch.float64)
    norm.load_state_dict({**norm.state_dict(), 'iterations': torch.tensor(1100)})
    norm.running_var.uniform_(0.7, 1.4)
    x = torch.randn(2, 5, 3, 4, dtype=torch.float64)
    # r brings the batch's own chi2 back to the running value.
    expected = x / (norm.running_var + norm.eps).sqrt().view(1, -1, 1, 1)
    torch.testing.assert_close(norm(x), expected, **CLOSE)


def follow(
    norm: MovingAverageBatchNorm2d, oracle: LiteralMABN, steps: int, bad: Collection[int] = ()
) -> None:
    """Compare outputs, gradients and running values step by step, with calls that change nothing between."""
    norm.weight.data.copy_(oracle.gamma)
    norm.bias.data.copy_(oracle.beta)
    for step in range(steps):
        scale = 1 + 0.9 * torch.sin(torch.tensor(0.7 * step))
        x = (torch.randn(2, 5, 3, 4, dtype=torch.float64) * scale).requires_grad_()
        grad = torch.randn_like(x)
        if step in bad:
            norm(x.detach() * float('nan'))
        out = norm(x)
        norm.zero_grad()
        out.backward(grad)
        expected = oracle.step(x.detach(), grad)
        for actual, wanted in zip((out, x.grad, norm.weight.grad, norm.bias.grad), expected, strict=True):
            torch.testing.assert_close(actual, wanted, **CLOSE)
        torch.testing.assert_close(norm.running_var, oracle.chi2_hat, **CLOSE)
    assert steps < 1010 or oracle.clipped > 10
    assert torch.equal(norm.running_mean, torch.zeros(5, dtype=torch.float64))


def test_batch_statistics_in_both_passes_are_the_derivative_of_rms_norm():
    norm = MovingAverageBatchNorm2d(
        3,
        warmup_iters=0,
        buffer_size=1,
        forward_statistics='batch',
        backward_statistics='batch',
        dtype=torch.float64,
    )
    conv = CenteredConv2d(2, 3, 2, dtype=torch.float64)
    for _ in range(20):
        x = torch.randn(2, 2, 4, 5, dtype=torch.float64)
        loss = norm(conv(x)).pow(3).mean()
        gradient = torch.autograd.grad(loss, conv.weight)[0]
        filters = conv.weight - conv.weight.mean((1, 2, 3), keepdim=True)
        y = nn.functional.conv2d(x, filters, conv.bias)
        expected = (y / ((y * y).mean((0, 2, 3), keepdim=True) + norm.eps).sqrt()).pow(3).mean()
        torch.testing.assert_close(loss, expected, **CLOSE)
        torch.testing.assert_close(gradient, torch.autograd.grad(expected, conv.weight)[0], **CLOSE)


def test_ablations_remember_what_they_average_alone():
    bn = set(nn.BatchNorm2d(2).state_dict())
    memory = {
        (forward, backward): set(
            MovingAverageBatchNorm2d(2, forward_statistics=forward, backward_statistics=backward).state_dict()
        )
        - bn
        for forward, backward in [('ema', 'sma'), ('batch', 'sma'), ('sma', 'ema'), ('batch', 'batch')]
    }
    assert memory == {
        ('ema', 'sma'): {'iterations', 'chi2_buffer', 'psi_buffer'},
        ('batch', 'sma'): {'iterations', 'psi_buffer'},
        ('sma', 'ema'): {'iterations', 'chi2_buffer', 'psi_hat'},
        ('batch', 'batch'): {'iterations'},
    }


@pytest.mark.parametrize(
    'wrong', [{'forward_statistics': 'EMA'}, {'backward_statistics': None}, {'forward_statistics': 16}]
)
def test_unknown_statistics_are_named_with_the_choices(wrong):
    (name, value), *_ = wrong.items()
    with pytest.raises(ValueError, match=f"{name} must be one of '.*'batch', got {name}={value!r}"):
        MovingAverageBatchNorm2d(3, **wrong)


def test_gradient_is_exact_while_batch_statistics_are_in_use():
    norm = MovingAverageBatchNorm2d(3, warmup_iters=10**6, dtype=torch.float64)
    x = torch.randn(2, 3, 2, 3, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(norm, x)


def test_shared_layer_averages_psi_over_the_iterations_of_chi2():
    """A head shared by levels runs forward twice before its backward passes come in reverse order."""
    shared = MovingAverageBatchNorm2d(3, buffer_size=2, warmup_iters=0, dtype=torch.float64)
    inputs = [torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True) for _ in range(4)]
    weights = [torch.randn(2, 3, 4, 4, dtype=torch.float64) for _ in range(4)]
    for a in (0, 2):
        loss = sum((shared(inputs[i]) * weights[i]).sum() for i in (a, a + 1))
        loss.backward()
    psi = []
    for x, w in zip(inputs[2:], weights[2:], strict=True):
        chi2 = shared.chi2_buffer.mean(0) if x is inputs[3] else None
        if chi2 is None:
            values = [(inputs[i].detach() ** 2).mean((0, 2, 3)) for i in (1, 2)]
            chi2 = sum(values) / 2
        z = x.detach() / (chi2.view(1, -1, 1, 1) + 1e-5).sqrt()
        psi.append((w * z).mean((0, 2, 3)))
    torch.testing.assert_close(shared.psi_buffer.sum(0), sum(psi), **CLOSE)


def test_eval_mode_is_an_affine_map():
    norm = MovingAverageBatchNorm2d(3)
    norm(torch.randn(4, 3, 5, 5) * 3)
    norm.running_var.uniform_(0.5, 2)
    norm.weight.data.normal_()
    norm.bias.data.normal_()
    x = torch.randn(2, 3, 5, 5)
    scale = (norm.weight / (norm.running_var + 1e-5).sqrt()).view(1, -1, 1, 1)
    torch.testing.assert_close(norm.eval()(x), x * scale + norm.bias.view(1, -1, 1, 1))


@pytest.mark.parametrize('change', [{'momentum': None}, {'track_running_stats': False}])
def test_running_value_is_required(change):
    with pytest.raises(ValueError, match='running statistics'):
        MovingAverageBatchNorm2d(3, **change)
