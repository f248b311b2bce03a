"""What holds for the functions in ops whatever the shapes, geometries and values."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from mmdet_cbn.ops import (
    ConvCall,
    Derivatives,
    Moments,
    PastMoments,
    PooledMoments,
    batch_moments,
    compensate,
    estimate_variance_derivative,
    intercepts,
    mean_derivative,
    moving_average_normalize,
    normalize,
    pool,
    pooled_derivatives,
    variance_derivative,
)

EACH = (slice(None), None, None)  # one value a channel, over height and width
small = st.integers(1, 3)
factors = st.floats(-4, 4).filter(lambda value: abs(value) > 0.1)


def randn(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def close(actual: Tensor, expected: Tensor, scale: float = 1.0) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9 * max(1.0, scale))


@dataclass
class Convolution:
    """A random convolution: input, weight and geometry."""

    x: Tensor
    weight: Tensor
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int

    @property
    def options(self) -> dict:
        return {k: getattr(self, k) for k in ('stride', 'padding', 'dilation', 'groups')}

    def output(self, x: Tensor | None = None, weight: Tensor | None = None) -> Tensor:
        x, weight = self.x if x is None else x, self.weight if weight is None else weight
        return F.conv2d(x, weight, **self.options)

    def call(self, x: Tensor | None = None, weight: Tensor | None = None) -> ConvCall:
        x, weight = self.x if x is None else x, self.weight if weight is None else weight
        return ConvCall(x, weight, None, self.stride, self.padding, self.dilation)

    def derivatives(self, x: Tensor | None = None, weight: Tensor | None = None) -> Derivatives:
        """Return p of shape (groups, D) and r of shape (C, D), as the layer computes them."""
        call, y = self.call(x, weight), self.output(x, weight)
        p = mean_derivative(call, tuple(y.shape[2:]))
        return Derivatives(p, variance_derivative(call, y, batch_moments(y), p))


@st.composite
def convolutions(
    draw: st.DrawFn, max_padding: int = 3, max_spare: int = 5, max_batch: int = 3
) -> Convolution:
    pairs = {
        'kernel': (1, 4),
        'stride': (1, 4),
        'padding': (0, max_padding),
        'dilation': (1, 3),
        'spare': (0, max_spare),
    }
    drawn = {k: (draw(st.integers(*limits)), draw(st.integers(*limits))) for k, limits in pairs.items()}
    reach = [d * (k - 1) + 1 for k, d in zip(drawn['kernel'], drawn['dilation'], strict=True)]
    size = [
        max(1, r - 2 * p) + s for r, p, s in zip(reach, drawn['padding'], drawn.pop('spare'), strict=True)
    ]
    groups, per_group_in, per_group_out = draw(small), draw(small), draw(small)
    batch = draw(st.integers(1, max_batch))
    seed = draw(st.integers(0, 2**16))
    offset = draw(st.floats(-5, 5))
    x = randn(seed, batch, groups * per_group_in, *size) + offset
    weight = randn(seed + 1, groups * per_group_out, per_group_in, *drawn.pop('kernel'))
    return Convolution(x, weight, **drawn, groups=groups)


def expand(p: Tensor, channels: int) -> Tensor:
    """Give each channel the row of its group."""
    return p.repeat_interleave(channels // p.size(0), 0)


@given(convolutions())
def test_derivatives_are_autograds_through_conv2d(conv):
    weight = conv.weight.clone().requires_grad_()
    y = conv.output(weight=weight)
    (of_mean,) = torch.autograd.grad(y.mean((0, 2, 3)).sum(), weight, retain_graph=True)
    (of_var,) = torch.autograd.grad(y.var((0, 2, 3), unbiased=False).sum(), weight)
    p, r = conv.derivatives()
    close(expand(p, len(weight)), of_mean.flatten(1))
    close(r, of_var.flatten(1), 100)


@given(convolutions())
def test_mean_derivative_is_the_mean_of_the_unfolded_patches(conv):
    geometry = {k: v for k, v in conv.options.items() if k != 'groups'}
    patches = F.unfold(conv.x, tuple(conv.weight.shape[2:]), **geometry)
    close(conv.derivatives()[0], patches.mean((0, 2)).view(conv.groups, -1))


@given(convolutions())
def test_mean_is_linear_and_variance_quadratic_in_the_weights(conv):
    """Euler's theorem: <p, w> is the mean itself and <r, w> twice the variance."""
    mean, var = batch_moments(conv.output())
    p, r = conv.derivatives()
    rest = intercepts(
        PastMoments(mean[:, None], var[:, None]), Derivatives(p[:, None], r[:, None]), conv.weight.flatten(1)
    )
    close(rest.mean[:, 0], torch.zeros_like(mean), 100)
    close(rest.var[:, 0], -var, 1000)


@given(convolutions(max_spare=20, max_batch=12), st.floats(0.01, 1))
def test_an_estimated_variance_derivative_is_exact_along_the_weights(conv, fraction):
    """It reads some positions only, and must read for each output the patch that made it."""
    y = conv.output()
    var = batch_moments(y)[1]

    def along(variance: Tensor) -> Tensor:
        r = estimate_variance_derivative(conv.call(), y, variance, fraction)
        return (r * conv.weight.flatten(1)).sum(1)

    # The estimate is bounded where the part varies much less than the whole, so ask for a small variance.
    close(along(1e-4 * var) * 1e4, 2 * var, 1e4)
    assert (along(var) >= -1e-9).all()
    assert (along(var) <= 2 * var * (1 + 1e-9) + 1e-9).all()


@given(convolutions(max_batch=12), st.floats(0.7, 1))
def test_an_estimate_from_all_positions_is_the_derivative(conv, fraction):
    y = conv.output()
    r = estimate_variance_derivative(conv.call(), y, batch_moments(y).var, fraction)
    close(r, conv.derivatives()[1], 1000)


@given(convolutions(), factors, factors)
def test_scaling_weights_and_inputs(conv, a, b):
    p, r = conv.derivatives()
    scaled_p, scaled_r = conv.derivatives(b * conv.x, a * conv.weight)
    close(scaled_p, b * p)
    close(scaled_r, a * b**2 * r, 1000)
    mean, var = batch_moments(conv.output())
    scaled_mean, scaled_var = batch_moments(a * b * conv.output())
    close(scaled_mean, a * b * mean, 100)
    close(scaled_var, (a * b) ** 2 * var, 1000)


@given(convolutions(max_padding=0), st.floats(-10, 10))
def test_translating_inputs(conv, shift):
    """Without padding a constant moves the mean alone, and the patches by itself."""
    p, r = conv.derivatives()
    moved_p, moved_r = conv.derivatives(conv.x + shift)
    close(moved_p, p + shift)
    close(moved_r, r, 1000)
    mean, var = batch_moments(conv.output())
    moved_mean, moved_var = batch_moments(conv.output(conv.x + shift))
    close(moved_mean, mean + shift * conv.weight.sum((1, 2, 3)), 100)
    close(moved_var, var, 1000)


@given(convolutions(), st.randoms(use_true_random=False))
def test_permuting_channels_and_samples_permutes_results(conv, random):
    def shuffled(count: int) -> list[int]:
        return random.sample(range(count), count)

    groups, out_channels, in_channels = conv.groups, *conv.weight.shape[:2]
    outs, ins, order = shuffled(out_channels // groups), shuffled(in_channels), shuffled(groups)
    # Whole groups change places, and so do the channels within each.
    w = conv.weight.view(groups, -1, *conv.weight.shape[1:])[order][:, outs][:, :, ins]
    x = conv.x[shuffled(len(conv.x))].view(len(conv.x), groups, -1, *conv.x.shape[2:])[:, order][:, :, ins]
    p, r = conv.derivatives()
    new_p, new_r = conv.derivatives(x.flatten(1, 2), w.flatten(0, 1))
    taps = conv.weight[0, 0].numel()
    close(new_p, p.view(groups, in_channels, taps)[order][:, ins].flatten(1))
    r = r.view(groups, -1, in_channels, taps)[order][:, outs][:, :, ins]
    close(new_r, r.flatten(0, 1).flatten(1), 100)
    mean, var = (m.view(groups, -1)[order][:, outs].flatten() for m in batch_moments(conv.output()))
    new_mean, new_var = batch_moments(conv.output(x.flatten(1, 2), w.flatten(0, 1)))
    close(new_mean, mean, 100)
    close(new_var, var, 1000)


@given(convolutions(), st.booleans(), st.floats(0, 3), st.integers(0, 2**16))
def test_carried_over_statistics_lack_the_second_order_alone(conv, with_bias, lr, seed):
    """For a fixed input: the mean is exact, and the variance too small by mean(conv(x; step)^2)."""
    channels = len(conv.weight)
    step = lr * randn(seed, *conv.weight.shape)
    bias, bias_step = randn(seed + 1, 2, channels) if with_bias else (None, None)
    y = conv.output() if bias is None else conv.output() + bias[:, None, None]
    mean, var = batch_moments(y)
    rows = Derivatives(*(derivative[:, None] for derivative in conv.derivatives()))
    then = PastMoments(mean[:, None], var[:, None])
    rest = intercepts(then, rows, conv.weight.flatten(1), bias)
    new_bias = None if bias is None else bias + bias_step
    new_mean, new_var = compensate(then.mean, rest, rows, (conv.weight + step).flatten(1), new_bias)
    change = conv.output(weight=step) + (0 if bias is None else bias_step[:, None, None])
    true_mean, true_var = batch_moments(y + change)
    close(new_mean[:, 0], true_mean, 100)
    close(new_var[:, 0], true_var - change.square().mean((0, 2, 3)), 10000)


shapes = st.tuples(small, st.integers(1, 5), st.integers(1, 6), st.integers(1, 6))
dtypes = st.sampled_from([torch.float64, torch.float32, torch.bfloat16])


@given(shapes, dtypes, st.floats(-1e6, 1e6), st.floats(0, 100), st.booleans(), st.integers(0, 2**16))
def test_batch_variance_is_never_negative(shape, dtype, mean, std, channels_last, seed):
    x = (mean + std * randn(seed, *shape)).to(dtype)
    x = x.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    of_batch, var = batch_moments(x)
    exact = x.double()
    precise = dtype == torch.float64
    # Rounding of the mean enters the variance as its square.
    rounding = abs(mean) * (1e-14 if precise else 1e-6)
    assert (var >= 0).all()
    torch.testing.assert_close(
        of_batch.double(), exact.mean((0, 2, 3)), rtol=0, atol=rounding + std * (1e-12 if precise else 1e-5)
    )
    torch.testing.assert_close(
        var.double(),
        exact.var((0, 2, 3), unbiased=False),
        rtol=1e-10 if precise else 1e-5,
        atol=rounding**2 + 1e-30,
    )


def even_shares(valid: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    """Of the current iteration and of the rows that count."""
    counts = torch.cat((torch.ones(1, dtype=dtype), valid.to(dtype)))
    return counts / counts.sum()


@dataclass
class Entries:
    """A current entry and k earlier ones, of which some do not count."""

    mean: Tensor
    var: Tensor
    past_mean: Tensor
    past_var: Tensor
    valid: Tensor

    def pool(self) -> tuple[Tensor, Tensor, Tensor]:
        past = PastMoments(self.past_mean, self.past_var)
        pooled = pool(Moments(self.mean, self.var), past, even_shares(self.valid, self.mean.dtype))
        return pooled.mean, pooled.var, pooled.share


@st.composite
def entries(draw: st.DrawFn, dtype: torch.dtype = torch.float64, mean_limit: float = 10) -> Entries:
    channels, valid = draw(st.integers(1, 4)), torch.tensor(draw(st.lists(st.booleans(), max_size=7))).bool()
    seed, offset = draw(st.integers(0, 2**16)), draw(st.floats(-mean_limit, mean_limit))
    mean = randn(seed, channels, valid.numel() + 1, dtype=dtype) + offset
    var = draw(st.floats(0, 3)) * randn(seed + 1, channels, valid.numel() + 1, dtype=dtype) + 0.5
    mean[:, 1:][:, ~valid] = draw(st.sampled_from([0.0, 1e15]))
    var[:, 1:][:, ~valid] = draw(st.sampled_from([0.0, -1e30]))
    return Entries(mean[:, 0], var[:, 0].clamp(min=0), mean[:, 1:], var[:, 1:], valid)


@given(entries())
def test_pool_is_an_average_of_lists(case):
    mean_bar, var_bar, share = case.pool()
    columns = [j for j, counts in enumerate(case.valid.tolist()) if counts]
    for c in range(len(case.mean)):
        mus = [case.mean[c].item()] + [case.past_mean[c, j].item() for j in columns]
        vs = [case.var[c].item()] + [max(0.0, case.past_var[c, j].item()) for j in columns]
        mu = sum(mus) / len(mus)
        nu = sum(v + m * m for m, v in zip(mus, vs, strict=True)) / len(mus)
        assert mean_bar[c].item() == pytest.approx(mu, rel=1e-12, abs=1e-12)
        assert var_bar[c].item() == pytest.approx(nu - mu * mu, rel=1e-11, abs=1e-11)
        assert share.item() == pytest.approx(1 / len(mus))


@given(entries(), st.randoms(use_true_random=False))
def test_pool_does_not_depend_on_the_order_of_the_entries(case, random):
    order = random.sample(range(case.valid.numel()), case.valid.numel())
    shuffled = Entries(
        case.mean, case.var, case.past_mean[:, order], case.past_var[:, order], case.valid[order]
    )
    for one, other in zip(case.pool(), shuffled.pool(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-13, atol=1e-13)


@given(entries(), st.randoms(use_true_random=False), factors, st.floats(-10, 10))
def test_pool_permutes_scales_and_moves_with_its_channels(case, random, scale, shift):
    mean_bar, var_bar, share = case.pool()
    channels = random.sample(range(len(case.mean)), len(case.mean))
    moved = Entries(
        case.mean[channels] * scale + shift,
        case.var[channels] * scale**2,
        case.past_mean[channels] * scale + shift,
        case.past_var[channels] * scale**2,
        case.valid,
    )
    new_mean, new_var, new_share = moved.pool()
    torch.testing.assert_close(new_mean, mean_bar[channels] * scale + shift, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(new_var, var_bar[channels] * scale**2, rtol=1e-11, atol=1e-11)
    assert new_share == share


@given(entries(torch.float32, mean_limit=1e7))
def test_pooled_variance_is_never_negative(case):
    assert (case.pool()[1] >= 0).all()


@given(shapes, st.integers(1, 5), st.floats(-100, 100), st.integers(0, 2**16))
def test_pooled_batches_of_one_size_are_one_large_batch(shape, k, offset, seed):
    batches = randn(seed, k, *shape) + offset
    moments = [torch.stack(m, 1) for m in zip(*map(batch_moments, batches), strict=True)]
    valid = torch.ones(k - 1, dtype=torch.bool)
    mean, var = moments
    past = PastMoments(mean[:, 1:], var[:, 1:])
    mean_bar, var_bar, *_ = pool(Moments(mean[:, 0], var[:, 0]), past, even_shares(valid))
    expected_mean, expected_var = batch_moments(batches.flatten(0, 1))
    close(mean_bar, expected_mean, 100)
    close(var_bar, expected_var, 100)


@st.composite
def windows(draw: st.DrawFn) -> dict[str, Tensor]:
    """Entries with derivatives, the weights at which they were measured, and today's weights."""
    groups, per_group, k, size = draw(small), draw(small), draw(st.integers(1, 4)), draw(st.integers(1, 5))
    seed, lr = draw(st.integers(0, 2**16)), draw(st.floats(0, 1))
    channels = groups * per_group
    valid = torch.tensor(draw(st.lists(st.booleans(), min_size=k, max_size=k)))
    weight = randn(seed, channels, size)
    return {
        'mean': randn(seed + 1, channels),
        'var': randn(seed + 2, channels).square(),
        'past_mean': randn(seed + 3, channels, k),
        'past_var': randn(seed + 4, channels, k).square(),
        'p': randn(seed + 5, groups, k, size),
        'r': randn(seed + 6, channels, k, size),
        'weight': weight,
        'past_weight': weight[:, None] + lr * randn(seed + 7, channels, k, size),
        'bias': randn(seed + 8, channels),
        'past_bias': randn(seed + 9, channels, k),
        'valid': valid,
    }


@given(windows())
def test_pooled_derivatives_are_autograds_through_the_papers_equations(window):
    weight, bias = window['weight'].clone().requires_grad_(), window['bias'].clone().requires_grad_()
    channels, k = window['past_mean'].shape
    p = expand(window['p'], channels)
    mus, nus = [window['mean']], [window['var'] + window['mean'] ** 2]
    past_mean, past_var, steps = [], [], []
    for s in range(k):
        mu, var = window['past_mean'][:, s], window['past_var'][:, s]
        step = weight - window['past_weight'][:, s]
        bias_step = bias - window['past_bias'][:, s]
        mu_step = (p[:, s] * step).sum(1) + bias_step
        q = window['r'][:, s] + 2 * mu[:, None] * p[:, s]
        nu_step = (q * step).sum(1) + 2 * mu * bias_step
        mu_s, nu_s = mu + mu_step, var + mu**2 + nu_step
        past_mean.append(mu_s.detach())
        past_var.append((nu_s - mu_s**2).detach())
        steps.append(mu_step.detach())
        if window['valid'][s]:
            mus.append(mu_s)
            nus.append(torch.maximum(nu_s, mu_s**2))
    mu_bar = sum(mus) / len(mus)
    var_bar = sum(nus) / len(nus) - mu_bar**2
    past_mean, past_var, steps = (torch.stack(m, 1) for m in (past_mean, past_var, steps))
    current = Moments(window['mean'], window['var'])
    results = pooled_derivatives(
        PooledMoments(mu_bar.detach(), var_bar.detach(), even_shares(window['valid']), current),
        PastMoments(past_mean, past_var),
        steps,
        Derivatives(window['p'], window['r']),
    )
    of_mean, of_var, of_mean_bias, of_var_bias = results
    if len(mus) == 1:
        assert not any(result.any() for result in results)
        return
    expected = torch.autograd.grad(mu_bar.sum(), (weight, bias), retain_graph=True)
    close(expand(of_mean, channels), expected[0])
    close(of_mean_bias.expand(channels), expected[1])
    expected = torch.autograd.grad(var_bar.sum(), (weight, bias))
    close(of_var, expected[0], 100)
    close(of_var_bias, expected[1], 100)


@given(shapes, st.booleans(), st.integers(1, 6), st.floats(-3, 3), st.integers(0, 2**16))
def test_normalize_is_autograds_through_its_own_share(shape, affine, n, offset, seed):
    """The statistics of x enter with 1 / n, those of earlier iterations are constants."""
    channels, eps = shape[1], 1e-3
    x = (randn(seed, *shape) + offset).requires_grad_()
    weight, bias = (randn(seed + i, channels).requires_grad_() if affine else None for i in (4, 5))
    inputs = [x, weight, bias] if affine else [x]
    constant_mean = offset + randn(seed + 2, channels)
    constant_nu = constant_mean**2 + randn(seed + 3, channels) ** 2
    mean = x.mean((0, 2, 3)) / n + constant_mean * (n - 1) / n
    var = x.square().mean((0, 2, 3)) / n + constant_nu * (n - 1) / n - mean**2
    expected = (x - mean[EACH]) / (var[EACH] + eps).sqrt()
    if affine:
        expected = expected * weight[EACH] + bias[EACH]
    share = torch.tensor(1 / n, dtype=torch.float64)
    out = normalize(x, weight, bias, mean.detach(), var.detach().clamp(min=0), eps, share)
    close(out, expected, 100)
    towards = randn(seed + 6, *shape)
    for got, want in zip(
        torch.autograd.grad(out, inputs, towards),
        torch.autograd.grad(expected, inputs, towards),
        strict=True,
    ):
        close(got, want, 1000)


@given(shapes, st.booleans(), st.floats(0, 1), st.integers(0, 2**16))
def test_moving_average_normalize_is_equations_19_and_20(shape, affine, keep, seed):
    channels, eps = shape[1], 1e-3
    x = randn(seed, *shape).requires_grad_()
    weight, bias = (randn(seed + i, channels).requires_grad_() if affine else None for i in (1, 2))
    chi2, r = randn(seed + 3, channels).square(), randn(seed + 4, channels).exp()
    before = randn(seed + 5, channels)
    batch_psi = []

    def average(psi: Tensor) -> Tensor:
        batch_psi.append(psi)
        return keep * before + (1 - keep) * psi

    out = moving_average_normalize(x, weight, bias, torch.zeros_like(r), chi2 + eps, r, average)
    gamma, beta = (torch.ones(channels), torch.zeros(channels)) if weight is None else (weight, bias)
    z = x / (chi2[EACH] + eps).sqrt()
    close(out, gamma[EACH] * r[EACH] * z + beta[EACH], 100)
    towards = randn(seed + 6, *shape)
    grads = torch.autograd.grad(out, [x, weight, bias] if affine else [x], towards)
    g = gamma[EACH] * r[EACH] * towards
    psi = (g * z).mean((0, 2, 3))
    close(batch_psi[0], psi, 100)
    psi_bar = keep * before + (1 - keep) * psi
    close(grads[0], (g - z * psi_bar[EACH]) / (chi2[EACH] + eps).sqrt(), 1000)
    if affine:
        close(grads[1], (towards * r[EACH] * z).sum((0, 2, 3)), 1000)
        close(grads[2], towards.sum((0, 2, 3)), 100)
