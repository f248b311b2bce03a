"""``averaging='exponential'`` against a list of all past entries, along training trajectories in float64."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from mmdet_cbn.layers import CrossIterationBatchNorm2d, NaiveCrossIterationBatchNorm2d, pair_conv_norm
from tests.helpers.following import GEOMETRIES, follow, make_conv
from tests.helpers.literal_exponential import LiteralExponentialCBN

KINDS = [CrossIterationBatchNorm2d, NaiveCrossIterationBatchNorm2d]
EXPONENTIAL = {'averaging': 'exponential', 'dtype': torch.float64}
STEPS = 60


@pytest.mark.parametrize(
    ('geometry', 'window_gradient'),
    [*((name, True) for name in GEOMETRIES), *((name, False) for name in ('3x3', 'groups', 'bias'))],
)
def test_cbn_is_the_average_of_all_past_entries(geometry, window_gradient):
    conv = make_conv(GEOMETRIES[geometry])
    norm = CrossIterationBatchNorm2d(
        conv.out_channels, window_size=5, window_gradient=window_gradient, **EXPONENTIAL
    )
    oracle = LiteralExponentialCBN(conv.out_channels, 5, window_gradient=window_gradient)
    follow(norm, conv, oracle, lr=0.05, steps=STEPS)
    assert len(oracle.past) == STEPS


@pytest.mark.parametrize('window_gradient', [False, True])
@pytest.mark.parametrize('geometry', ['stride', 'groups', 'bias', 'reflect'])
def test_the_maximum_takes_over_where_weights_move_fast(geometry, window_gradient):
    """Large random steps; both layers have the same weights, so that what differs does not build up."""
    conv = make_conv(GEOMETRIES[geometry])
    norm = CrossIterationBatchNorm2d(6, window_size=4, window_gradient=window_gradient, **EXPONENTIAL)
    oracle = LiteralExponentialCBN(6, 4, window_gradient=window_gradient)
    block, other = nn.Sequential(conv, norm), deepcopy(conv)
    pair_conv_norm(block)
    for _ in range(30):
        x, target = torch.randn(2, 4, 9, 8, dtype=torch.float64) + 1, None
        gradients = []
        for out, module in ((block(x), conv), (oracle(other(x), other), other)):
            target = out.detach() + torch.randn_like(out) if target is None else target
            gradients.append(torch.autograd.grad((out * target).sum(), list(module.parameters())))
            gradients[-1] += (out,)
        for found, expected in zip(*gradients, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
        with torch.no_grad():
            for mine, theirs in zip(conv.parameters(), other.parameters(), strict=True):
                mine += 0.7 * torch.randn_like(mine) * mine.std()
                theirs.copy_(mine)
    assert oracle.clamped > 10


@pytest.mark.parametrize('window_gradient', [False, True])
def test_one_value_a_channel_does_not_diverge(window_gradient):
    """Batches have no variance of their own then, and all there is comes from the spread of the means."""
    conv = nn.Conv2d(8, 6, 1, bias=False)
    norm = CrossIterationBatchNorm2d(
        6, window_size=8, averaging='exponential', window_gradient=window_gradient
    )
    block = nn.Sequential(conv, norm)
    pair_conv_norm(block)
    optimizer = torch.optim.SGD(block.parameters(), 0.1, momentum=0.9)
    largest = 0.0
    for _ in range(200):
        optimizer.zero_grad()
        out = block(torch.randn(1, 8, 1, 1))
        (out - 1).square().mean().backward()
        optimizer.step()
        largest = max(largest, out.abs().max().item())
    assert largest < 20


@pytest.mark.parametrize('window_size', [2, 8, 64])
def test_the_window_size_is_the_span_of_the_decay(window_size):
    conv = make_conv(GEOMETRIES['3x3'])
    norm = CrossIterationBatchNorm2d(6, window_size=window_size, **EXPONENTIAL)
    follow(norm, conv, LiteralExponentialCBN(6, window_size), lr=0.1, steps=STEPS)


def test_weights_at_rest_need_no_correction():
    """Gradient accumulation: what is averaged is exactly what was measured."""
    conv = make_conv(GEOMETRIES['bias'])
    norm = CrossIterationBatchNorm2d(6, window_size=5, **EXPONENTIAL)
    follow(norm, conv, LiteralExponentialCBN(6, 5, compensate=False), lr=0.0, steps=10)
    assert norm.diagnose(conv)['compensation'] < 1e-9


def test_naive_cbn_averages_what_was_measured():
    conv = make_conv(GEOMETRIES['bias'])
    norm = NaiveCrossIterationBatchNorm2d(6, window_size=5, **EXPONENTIAL)
    follow(norm, conv, LiteralExponentialCBN(6, 5, compensate=False), lr=0.1, steps=STEPS)


@pytest.mark.parametrize('kind', KINDS)
def test_the_first_iteration_and_burn_in_are_bn(kind):
    conv = make_conv(GEOMETRIES['bias'])
    norm, bn = kind(6, burn_in=3, **EXPONENTIAL), nn.BatchNorm2d(6, dtype=torch.float64)
    block = nn.Sequential(conv, norm)
    pair_conv_norm(block)
    for step in range(5):
        x = torch.randn(3, 4, 5, 7, dtype=torch.float64) + 100
        out, expected = block(x), bn(conv._conv_forward(x, conv.weight, conv.bias))
        assert torch.allclose(out, expected, rtol=1e-9, atol=1e-9) == (step < 4)


@pytest.mark.parametrize('window_size', [2, 8, 64])
def test_its_memory_is_one_size_of_the_weights(window_size):
    block = nn.Sequential(nn.Conv2d(64, 64, 3), CrossIterationBatchNorm2d(64, window_size=window_size))
    block[1].averaging = 'exponential'
    pair_conv_norm(block)
    block(torch.randn(2, 64, 5, 5))
    kept = sum(v.numel() for v in vars(block[1].window).values() if isinstance(v, torch.Tensor))
    assert kept <= 1.05 * block[0].weight.numel()


@pytest.mark.parametrize('averaging', ['window', 'exponential'])
@pytest.mark.parametrize('kind', KINDS)
def test_a_window_size_of_1_forgets_what_other_weights_made(kind, averaging):
    block = nn.Sequential(nn.Conv2d(3, 4, 3), kind(4, averaging=averaging))
    pair_conv_norm(block)
    for window_size, fill in ((4, 1), (4, 2), (1, None), (4, 1)):
        block[1].window_size = window_size
        block(torch.randn(2, 3, 6, 6))
        window = block[1].window
        assert (None if window is None else round(float(window.fill), 1)) == pytest.approx(fill, abs=0.2)


@pytest.mark.parametrize('kind', KINDS)
def test_fill_grows_to_the_window_size(kind):
    block = nn.Sequential(nn.Conv2d(3, 4, 3), kind(4, window_size=6, averaging='exponential'))
    pair_conv_norm(block)
    fills = []
    for _ in range(60):
        block(torch.randn(2, 3, 6, 6))
        fills.append(float(block[1].window.fill))
    weights = [(1 - 2 / 7) ** age for age in range(5)]
    assert fills[0] == pytest.approx(1)
    assert fills[4] == pytest.approx(sum(weights) ** 2 / sum(w**2 for w in weights), rel=1e-5)
    assert fills[-1] == pytest.approx(6, rel=1e-3)


def test_it_reports_the_correction_of_the_mean():
    conv = make_conv(GEOMETRIES['bias'])
    norm = CrossIterationBatchNorm2d(6, **EXPONENTIAL)
    block = nn.Sequential(conv, norm)
    pair_conv_norm(block)
    assert norm.diagnose(conv) is None
    x = torch.randn(3, 4, 9, 9, dtype=torch.float64)
    block(x)
    std = conv(x).var((0, 2, 3), unbiased=False).sqrt()
    still = norm.diagnose(conv)
    with torch.no_grad():
        conv.bias += 0.5 * std
    moved = norm.diagnose(conv)
    assert (float(still['compensation']), float(still['clamped'])) == (pytest.approx(0, abs=1e-7), 0)
    # A bias leaves the mean of squares about the old mean alone, to first order: its variance shrinks.
    assert float(moved['compensation']) == pytest.approx((0.5**2 / (1 - 0.5**2)) ** 0.5, rel=1e-6)


def errors_at_large_means(averaging: str, window_gradient: bool) -> tuple[float, float]:
    """Return the float32 layer's errors, of output and of the weight's gradient, at 10,000 deviations."""
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 6, 3, bias=False)
    norm = CrossIterationBatchNorm2d(6, averaging=averaging, window_gradient=window_gradient)
    block = nn.Sequential(conv, norm)
    exact = deepcopy(block).double()
    pair_conv_norm(block)
    pair_conv_norm(exact)
    of_output = of_gradient = 0.0
    for _ in range(25):
        x = 0.1 * torch.randn(4, 4, 12, 12) + 1000
        gradients = []
        target = torch.randn(4, 6, 10, 10)
        outputs = [net(x.to(net[0].weight.dtype)) for net in (block, exact)]
        for net, out in zip((block, exact), outputs, strict=True):
            net.zero_grad()
            (out * target).sum().backward()
            gradients.append(net[0].weight.grad.double())
        of_output = max(of_output, (outputs[0].double() - outputs[1]).abs().max().item())
        of_gradient = max(of_gradient, ((gradients[0] - gradients[1]).norm() / gradients[1].norm()).item())
        step = 1e-6 * torch.randn(6, 4, 3, 3)
        with torch.no_grad():
            block[0].weight += step
            exact[0].weight.copy_(block[0].weight)
    return of_output, of_gradient


@pytest.mark.parametrize('window_gradient', [False, True])
def test_large_means_lose_no_digits_that_the_window_keeps(window_gradient):
    found = errors_at_large_means('exponential', window_gradient)
    window = errors_at_large_means('window', window_gradient)
    assert window[0] < 0.5  # ten thousand deviations leave three digits of float32 to begin with
    for error, bound in zip(found, window, strict=True):
        assert error < 2 * bound


def test_an_estimate_from_all_positions_changes_nothing():
    """Of so few rows and images that ``derivative_fraction`` leaves none out."""
    outputs = []
    for fraction in (1.0, 0.9):
        torch.manual_seed(0)
        norm = CrossIterationBatchNorm2d(
            6, averaging='exponential', derivative_fraction=fraction, dtype=torch.float64
        )
        conv = nn.Conv2d(4, 6, 3, dtype=torch.float64)
        block = nn.Sequential(conv, norm)
        pair_conv_norm(block)
        for _ in range(6):
            out = block(torch.randn(2, 4, 6, 7, dtype=torch.float64) + 3)
            with torch.no_grad():
                conv.weight += 0.1 * torch.randn_like(conv.weight)
        outputs.append(out)
    torch.testing.assert_close(*outputs, rtol=1e-9, atol=1e-9)
