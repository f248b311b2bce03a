"""MABN against its formulas written out on plain lists, in float64."""

from collections.abc import Collection

import pytest
import torch
from torch import nn

from mmdet_cbn.layers import CenteredConv2d, MovingAverageBatchNorm2d
from tests.helpers.literal_mabn import LiteralMABN

CLOSE = {'rtol': 1e-9, 'atol': 1e-9}


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
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    nn.init.normal_(norm.bias)
    oracle.gamma, oracle.beta = (p.detach().clone().requires_grad_() for p in (norm.weight, norm.bias))
    for step in range(steps):
        scale = 1 + 0.9 * torch.sin(torch.tensor(0.7 * step))
        x = (torch.randn(2, 5, 3, 4, dtype=torch.float64) * scale).requires_grad_()
        grad = torch.randn_like(x)
        if step in bad:
            norm(x.detach() * float('nan'))
        out = norm(x)
        norm.zero_grad()
        out.backward(grad)
        other = x.detach().clone().requires_grad_()
        expected = oracle(other)
        expected = expected, *torch.autograd.grad(expected, [other, oracle.gamma, oracle.beta], grad)
        for actual, wanted in zip((out, x.grad, norm.weight.grad, norm.bias.grad), expected, strict=True):
            torch.testing.assert_close(actual, wanted, **CLOSE)
        torch.testing.assert_close(norm.running_var, oracle.running_var, **CLOSE)
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
