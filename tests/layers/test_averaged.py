"""AvgBN against its formulas, with the statistics of all iterations in lists."""

import math

import pytest
import torch
from torch import nn

from mmdet_cbn.layers import AveragedBatchNorm2d, convert_batch_norm
from mmdet_cbn.layers.local_state import load_local_state, local_state

CHANNELS = 4
EPS = 1e-5
EACH = (slice(None), None, None)


def mean_of(x):
    return x.mean((0, 2, 3))


class Formulas:
    """Every statistic of every iteration, with the weight that is left of its first one."""

    def __init__(self, window_size):
        self.alpha = 2 / (window_size + 1)
        self.means, self.squares, self.of_g, self.of_gz = [], [], [], []

    def average(self, values):
        first = [max(self.alpha, 1 / (1 + 0.02 * t)) for t in range(len(values))]
        weights = [share * math.prod(1 - later for later in first[t + 1 :]) for t, share in enumerate(first)]
        return sum(weight * value for weight, value in zip(weights, values, strict=True))

    def step(self, y, gamma, beta, grad):
        """Return the output, and the gradients by y, gamma and beta."""
        self.means.append(mean_of(y))
        self.squares.append(mean_of(y**2))
        mean = self.average(self.means)
        std = (self.average(self.squares) - mean**2 + EPS).sqrt()
        z = (y - mean[EACH]) / std[EACH]
        g = gamma[EACH] * grad
        self.of_g.append(g.sum((0, 2, 3)))
        self.of_gz.append((g * z).sum((0, 2, 3)))
        of_g, of_gz = (self.average(sums)[EACH] / y[:, 0].numel() for sums in (self.of_g, self.of_gz))
        by_y = (g - of_g - z * of_gz) / std[EACH]
        out = gamma[EACH] * z + beta[EACH]
        return out, by_y, (grad * z).sum((0, 2, 3)), grad.sum((0, 2, 3))


def some_calls(number, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(number):
        images = int(torch.randint(1, 4, (), generator=generator))
        y, grad = torch.randn(2, images, CHANNELS, 5, 3, generator=generator, dtype=torch.float64)
        yield 3 + y * torch.rand((), generator=generator) + torch.randn((), generator=generator), grad


def parameters(norm):
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2, generator=torch.Generator().manual_seed(1))
        norm.bias.uniform_(-1, 1, generator=torch.Generator().manual_seed(2))
    return norm.weight.detach().clone(), norm.bias.detach().clone()


def call(norm, y, grad):
    y = y.clone().requires_grad_()
    out = norm(y)
    norm.zero_grad()
    out.backward(grad)
    return out.detach(), y.grad, norm.weight.grad, norm.bias.grad


@pytest.mark.parametrize('window_size', [2, 3, 40])
def test_both_passes_are_those_of_the_formulas(window_size):
    norm = AveragedBatchNorm2d(CHANNELS, window_size=window_size).double()
    gamma, beta = parameters(norm)
    formulas = Formulas(window_size)
    for y, grad in some_calls(120):
        found = call(norm, y, grad)
        torch.testing.assert_close(found, formulas.step(y, gamma, beta, grad), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('affine', [True, False])
def test_burn_in_and_the_first_iteration_behind_it_are_bn(affine):
    norm = AveragedBatchNorm2d(CHANNELS, burn_in=2, affine=affine).double()
    bn = nn.BatchNorm2d(CHANNELS, momentum=0.02, affine=affine).double()
    for iteration, (y, grad) in enumerate(some_calls(4)):
        y, other = (y.clone().requires_grad_() for _ in range(2))
        outs = norm(y), bn(other)
        for out in outs:
            out.backward(grad)
        same = torch.allclose(y.grad, other.grad, rtol=1e-9, atol=1e-9)
        assert same == torch.allclose(*outs, rtol=1e-9, atol=1e-9) == (iteration < 3)
    torch.testing.assert_close(norm.running_mean, bn.running_mean)


@pytest.mark.parametrize('momentum', [0.3, None])
def test_running_statistics_are_averages_of_mean_and_mean_of_squares(momentum):
    norm = AveragedBatchNorm2d(CHANNELS, momentum=momentum).double()
    mean, square = torch.zeros(CHANNELS, dtype=torch.float64), torch.ones(CHANNELS, dtype=torch.float64)
    for number, (y, grad) in enumerate(some_calls(9), 1):
        call(norm, y, grad)
        share = momentum or 1 / number
        mean = (1 - share) * mean + share * mean_of(y)
        square = (1 - share) * square + share * mean_of(y**2)
        torch.testing.assert_close(norm.running_mean, mean, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(norm.running_var, square - mean**2, rtol=1e-9, atol=1e-9)


def test_a_window_of_one_iteration_is_bn():
    norm, bn = AveragedBatchNorm2d(CHANNELS, window_size=1).double(), nn.BatchNorm2d(CHANNELS).double()
    for y, grad in some_calls(3):
        torch.testing.assert_close(call(norm, y, grad), call(bn, y, grad), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('images', [(2, 2), (1, 8)])
def test_on_average_the_gradient_neither_shifts_nor_scales(images):
    """What BN's has in each iteration, and CBN's, with its share of 1 / k, has lost.

    Under a loss that is a mean over the images, however many there are.
    """
    norm = AveragedBatchNorm2d(CHANNELS, window_size=20).double()
    generator = torch.Generator().manual_seed(0)
    taken_out, left = torch.zeros(2, 2, CHANNELS, dtype=torch.float64)
    for iteration in range(400):
        shape = 2, images[iteration % 2], CHANNELS, 5, 3
        y, noise = torch.randn(shape, generator=generator, dtype=torch.float64)
        grad = (1 + 2 * y + noise) / len(y)
        _, by_y, *_ = call(norm, 3 + y, grad)
        left += torch.stack([part.sum((0, 2, 3)) for part in (by_y, by_y * y)])
        taken_out += torch.stack([part.sum((0, 2, 3)) for part in (grad, grad * y)])
    assert (left.abs() < 0.05 * taken_out).all()


def test_forward_passes_without_a_backward_pass_leave_no_zeros_in_its_averages():
    norm = AveragedBatchNorm2d(CHANNELS, window_size=20).double()
    gamma, beta = parameters(norm)
    formulas = Formulas(20)
    *before, (y, grad) = some_calls(60)
    for earlier, _ in before:
        norm(earlier)
        formulas.step(earlier, gamma, beta, grad[:1])
    _, by_y, *_ = call(norm, y, grad)
    formulas.step(y, gamma, beta, grad)
    mean = formulas.average(formulas.means)
    std = (formulas.average(formulas.squares) - mean**2 + EPS).sqrt()
    z, g = (y - mean[EACH]) / std[EACH], gamma[EACH] * grad
    expected = (g - mean_of(g)[EACH] - z * mean_of(g * z)[EACH]) / std[EACH]
    torch.testing.assert_close(by_y, expected, rtol=1e-9, atol=1e-9)


def test_a_gradient_that_is_not_finite_does_not_enter():
    norm = AveragedBatchNorm2d(CHANNELS, window_size=4).double()
    gamma, beta = parameters(norm)
    formulas = Formulas(4)
    for number, (y, grad) in enumerate(some_calls(6)):
        if number == 3:
            kept = norm.window.gradients.clone()
            call(norm, y, grad * torch.inf)
            assert torch.equal(norm.window.gradients, kept)
            formulas.step(y, gamma, beta, grad)
            formulas.of_g[-1] = formulas.average(formulas.of_g[:-1])  # as if it had been the average
            formulas.of_gz[-1] = formulas.average(formulas.of_gz[:-1])
        else:
            expected = formulas.step(y, gamma, beta, grad)
            torch.testing.assert_close(call(norm, y, grad), expected, rtol=1e-9, atol=1e-9)


def test_a_large_mean_costs_half_types_nothing():
    """With a mean of 100 standard deviations the gradient has the rounding of its own type, no more."""
    generator = torch.Generator().manual_seed(0)
    y = (100 + torch.randn(2, CHANNELS, 16, 16, generator=generator)).bfloat16()
    grad = (1 + torch.randn(2, CHANNELS, 16, 16, generator=generator)).bfloat16()
    _, found, *_ = call(AveragedBatchNorm2d(CHANNELS), y, grad)
    _, expected, *_ = call(AveragedBatchNorm2d(CHANNELS).double(), y.double(), grad.double())
    torch.testing.assert_close(found.double(), expected, rtol=2**-6, atol=2**-6)


def test_local_state_gives_the_averages_of_both_passes_back():
    calls = list(some_calls(6))
    norm, resumed = (AveragedBatchNorm2d(CHANNELS, window_size=4).double() for _ in range(2))
    for y, grad in calls[:3]:
        call(norm, y, grad)
    resumed.load_state_dict(norm.state_dict())
    assert load_local_state(resumed, local_state(norm)) == {}
    for y, grad in calls[3:]:
        torch.testing.assert_close(call(norm, y, grad), call(resumed, y, grad), rtol=0, atol=0)


def test_a_model_of_bn_takes_it_with_its_own_momentum():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
    convert_batch_norm(model, 'AvgBN', window_size=32)
    assert (model[1].momentum, model[1].window_size) == (0.02, 32)
    assert type(model[0]) is nn.Conv2d
