"""The error of CBN's correction against the papers' formulas, written out with autograd in float64."""

import copy

import matplotlib.image
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mmdet_cbn.analysis.compensation.correction import ESTIMATES, CorrectionErrors, measure_correction
from mmdet_cbn.analysis.compensation.correction_plot import plot_correction
from mmdet_cbn.layers import CrossIterationBatchNorm2d, pair_conv_norm

EPS = 1e-5


def batches(count, size=2):
    return [torch.randn(size, 3, 7, 7, dtype=torch.float64) + 0.3 for _ in range(count)]


def loss(model, batch):
    return (model(batch) * torch.linspace(-1, 2, 5, dtype=batch.dtype)).square().mean()


def network(norm=nn.BatchNorm2d, **arguments):
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        norm(4, **arguments),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, groups=2, bias=False),
        norm(6, **arguments),
        nn.ReLU(),
    ).double()
    pair_conv_norm(model)
    return model


def sgd(model, lr=0.1):
    return torch.optim.SGD(model.parameters(), lr)


def statistics(y):
    return y.mean((0, 2, 3)), y.square().mean((0, 2, 3))


def literal(parameters, x):
    """Mean and mean of squares of both layers."""
    w1, b1, gamma, beta, w2 = parameters[:5]
    first = F.conv2d(x, w1, b1, padding=1)
    mean, square = (s[:, None, None] for s in statistics(first))
    scale = gamma[:, None, None] / (square - mean**2 + EPS).sqrt()
    inner = (scale * (first - mean) + beta[:, None, None]).relu()
    return [statistics(first), statistics(F.conv2d(inner, w2, groups=2))], inner


def literal_estimates(then, now, x):
    """Equations 7, 8 and 10 with derivatives by the own layer alone, and what the own layer would give."""
    leaves = [p.clone().requires_grad_() for p in then]
    layers, inner = literal(leaves, x)
    today, _ = literal(now, x)
    own = [(0, 1), (4,)]
    for layer, (mean, square) in enumerate(layers):
        moved = []
        for value in (mean, square):
            rows = []
            for channel in value:
                grads = torch.autograd.grad(
                    channel, [leaves[i] for i in own[layer]], retain_graph=True, allow_unused=True
                )
                step = sum((g * (now[i] - then[i])).sum() for i, g in zip(own[layer], grads, strict=True))
                rows.append(channel.detach() + step)
            moved.append(torch.stack(rows))
        linear = (moved[0], torch.maximum(moved[1], moved[0] ** 2))
        if layer == 0:
            quadratic = statistics(F.conv2d(x, now[0], now[1], padding=1))
        else:
            quadratic = statistics(F.conv2d(inner.detach(), now[4], groups=2))
        yield (mean.detach(), square.detach()), linear, quadratic, today[layer]


def test_two_layers_against_the_formulas():
    model = network()
    data = batches(7)
    frozen = copy.deepcopy(model)
    errors = measure_correction(model, data, sgd(model), loss, lags=[1, 3], probes=[4, 6])
    assert (errors.iterations, errors.lags, errors.layers) == ([4, 6], [1, 3], ['0', '3'])
    assert ESTIMATES == ('none', 'linear', 'quadratic')

    history, losses, optimizer = [], [], sgd(frozen)
    for batch in data:
        history.append([p.detach().clone() for p in frozen.parameters()])
        optimizer.zero_grad()
        value = loss(frozen, batch)
        value.backward()
        optimizer.step()
        losses.append(value.item())
    assert errors.losses == losses[:5]
    for probe, iteration in enumerate(errors.iterations):
        now = history[iteration - 1]
        true_variances, true_means = [], []
        for place, lag in enumerate(errors.lags):
            then, x = history[iteration - 1 - lag], data[iteration - 1 - lag]
            for layer, (*estimates, truth) in enumerate(literal_estimates(then, now, x)):
                true_var = truth[1] - truth[0] ** 2
                true_means.append(truth[0])
                true_variances.append(true_var)
                for number, (mean, square) in enumerate(estimates):
                    of_mean = ((mean - truth[0]).abs() / (true_var + EPS).sqrt()).mean()
                    of_var = ((square - mean**2 - true_var).abs() / (true_var + EPS)).mean()
                    found = errors.mean[probe, place, layer, number]
                    assert found == pytest.approx(of_mean.item(), rel=1e-9, abs=1e-12)
                    found = errors.var[probe, place, layer, number]
                    assert found == pytest.approx(of_var.item(), rel=1e-9, abs=1e-12)
        for layer in range(2):  # two batches: half their distance, times sqrt(2)
            mean, other = true_means[layer::2]
            var, other_var = true_variances[layer::2]
            scale = (var + other_var) / 2 + EPS
            expected = ((mean - other).abs() / 2**0.5 / scale.sqrt()).mean()
            assert errors.mean_spread[probe, layer] == pytest.approx(expected.item(), rel=1e-9)
            expected = ((var - other_var).abs() / 2**0.5 / scale).mean()
            assert errors.var_spread[probe, layer] == pytest.approx(expected.item(), rel=1e-9)
    assert (errors.mean[:, :, 1, 0] > 1e-4).all()


def test_first_layer_by_hand():
    """One filter of one weight w: mean w m, variance w^2 v of an input with mean m and variance v."""
    model = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.BatchNorm2d(1, eps=1e-12)).double()
    nn.init.constant_(model[0].weight, 2.0)
    x = torch.tensor([1.0, 3.0, 1.0, 3.0], dtype=torch.float64).reshape(1, 1, 2, 2)  # m = 2, v = 1

    # The loss pulls the weight itself, by 0.5 a step: 2, 1.5, 1.
    def pull(net, batch):
        return 0 * net(batch).sum() + net[0].weight.sum()

    errors = measure_correction(model, [x] * 3, sgd(model, lr=0.5), pull, [2], [3])
    # Then: mean 4, nu 20, variance 4. Today: mean 2, variance 1. The linear nu is 20 - 2 * 2 * 5 = 0,
    # below the square of the mean, so eq. 10 makes the variance 0.
    np.testing.assert_allclose(errors.mean[0, 0, 0], [2, 0, 0], atol=1e-9)
    np.testing.assert_allclose(errors.var[0, 0, 0], [3, 1, 0], atol=1e-9)


def test_first_layer_is_exact_up_to_the_square():
    model = network()
    errors = measure_correction(model, batches(6), sgd(model, lr=0.01), loss, lags=[1, 2, 4], probes=[5])
    first = errors.mean[0, :, 0]
    assert (first[:, 0] > 1e-4).all()
    np.testing.assert_allclose(first[:, 1:], 0, atol=1e-12)
    np.testing.assert_allclose(errors.var[0, :, 0, 2], 0, atol=1e-12)
    assert (errors.var[0, :, 0, 1] > 1e-9).all()
    assert (errors.var[0, :, 0, 1] < errors.var[0, :, 0, 0]).all()


def test_run_trains_as_without_being_measured():
    models = [network(CrossIterationBatchNorm2d, window_size=4, burn_in=2)]
    models.append(copy.deepcopy(models[0]))
    data = batches(6)
    measure_correction(models[0], data, sgd(models[0]), loss, lags=[1, 2], probes=[3, 5, 7])
    optimizer = sgd(models[1])
    for batch in data:
        optimizer.zero_grad()
        loss(models[1], batch).backward()
        optimizer.step()
    measured, plain = (model.state_dict() for model in models)
    assert all(torch.equal(value, plain[name]) for name, value in measured.items())
    assert torch.equal(models[0][4].window.statistics(None, None)[0], models[1][4].window.mean)


@pytest.mark.parametrize('norm', [nn.BatchNorm2d, CrossIterationBatchNorm2d])
def test_no_error_where_weights_stand_still(norm):
    """Through windows that move on and dropout that is drawn anew."""
    model = network(norm)
    model.insert(3, nn.Dropout(0.5))
    pair_conv_norm(model)
    errors = measure_correction(model, batches(8), sgd(model, lr=0.0), loss, lags=[1, 3], probes=[6, 7])
    np.testing.assert_allclose(errors.mean, 0, atol=1e-12)
    np.testing.assert_allclose(errors.var, 0, atol=1e-12)
    assert (errors.mean_spread > 1e-3).all()


@pytest.mark.parametrize(
    ('lags', 'probes', 'words'),
    [
        ([0, 1], [5], 'lags must be at least 1'),
        ([], [5], 'lags must be at least 1'),
        ([1, 4], [4, 9], r'above the largest lag, 4, got \[4\]'),
        ([1], [], 'above the largest lag, 1, got none'),
        ([1], [9], 'ended before the first probe, iteration 9'),
    ],
)
def test_wrong_arguments(lags, probes, words):
    model = network()
    with pytest.raises(ValueError, match=words):
        measure_correction(model, batches(3), sgd(model), loss, lags, probes)


def test_model_without_batch_statistics():
    model = network().eval()
    with pytest.raises(ValueError, match='Sequential has no convolution'):
        measure_correction(model, batches(3), sgd(model), loss, [1], [3])


def made_up(scale):
    shape = (3, 2, 2, 3)
    mean, var = (scale * np.random.default_rng(seed).random(shape) for seed in (0, 1))
    return CorrectionErrors(
        [10, 20, 30], [1, 2], ['a', 'b'], mean, var, mean[:, 0, :, 0], var[:, 0, :, 0], [1.0]
    )


def test_averages():
    errors = made_up(1.0)
    np.testing.assert_allclose(errors.over_lags().mean, errors.mean[1:].mean((0, 2)))
    np.testing.assert_allclose(errors.over_lags().var_spread, errors.var_spread[1:].mean())
    np.testing.assert_allclose(errors.over_iterations().var, errors.var[:, 1].mean(1))
    np.testing.assert_allclose(errors.over_iterations().mean_spread, errors.mean_spread.mean(1))


def test_plot(tmp_path):
    plot_correction(
        {'0.1': made_up(1.0), '0.01': made_up(0.1)}, tmp_path / 'correction.png', 'a run', burn_in=15
    )
    assert matplotlib.image.imread(tmp_path / 'correction.png').std() > 0
