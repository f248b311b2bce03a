"""Gradient ratios against Jacobians that torch.func writes out, in float64."""

import copy
import math

import matplotlib.image
import pytest
import torch
from torch import nn
from torch.func import functional_call, jacrev

from mmdet_cbn.analysis.compensation.gradient_ratios import Ratio, gradient_ratios, mean_ratios
from mmdet_cbn.analysis.compensation.gradient_ratios_plot import plot_gradient_ratios
from mmdet_cbn.layers import CrossIterationBatchNorm2d, pair_conv_norm


def plain(channels=6):
    return nn.Sequential(
        nn.Conv2d(3, channels, 3, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 3, stride=2, padding=1, groups=2),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.Conv2d(channels, 4, 1),
        nn.BatchNorm2d(4),
    ).double()


class Block(nn.Module):
    """A residual block that executes its shortcut last, as torchvision's does."""

    def __init__(self, channels, out):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(out)
        self.shortcut = nn.Sequential()
        if channels != out:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, out, 1), nn.BatchNorm2d(out))

    def forward(self, x):
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (y + self.shortcut(x)).relu()


def oracle(prefix, statistic, x, conv, earlier):
    """Norms of the whole Jacobian for the first layers ``prefix``, which end with the convolution."""
    parameters = {name: value.detach() for name, value in prefix.named_parameters()}

    def function(some):
        y = functional_call(copy.deepcopy(prefix), {**parameters, **some}, (x,))
        return (y if statistic == 'mean' else y**2).mean((0, 2, 3))

    def norm(name):
        own = {key: value for key, value in parameters.items() if key.startswith(name + '.')}
        return math.sqrt(sum(part.square().sum().item() for part in jacrev(function)(own).values()))

    return norm(earlier) / norm(conv)


def test_against_whole_jacobians():
    """Bias, stride and groups included."""
    model, x = plain(), torch.randn(2, 3, 9, 9, dtype=torch.float64)
    ratios = gradient_ratios(model, lambda copied: copied(x), projections=6)
    found = [(ratio.layer, ratio.earlier, ratio.distance) for ratio in ratios]
    assert found == 2 * [('3', '0', 1)] + 2 * [('6', '3', 1), ('6', '0', 2)]
    assert {ratio.statistic for ratio in ratios} == {'mean', 'mean_square'}
    for ratio in ratios:
        prefix = model[: int(ratio.layer) + 1]
        expected = oracle(prefix, ratio.statistic, x, ratio.layer, ratio.earlier)
        assert ratio.value == pytest.approx(expected, rel=1e-9)
        assert ratio.standard_error == 0


@pytest.mark.slow
def test_standard_error_tells_how_far_an_estimate_is_off():
    model, x = plain(channels=40), torch.randn(2, 3, 9, 9, dtype=torch.float64)
    exact = gradient_ratios(model, lambda copied: copied(x), projections=40)
    scores = []
    for _ in range(20):
        estimated = gradient_ratios(model, lambda copied: copied(x), projections=20)
        for ratio, truth in zip(estimated[:2], exact[:2], strict=True):
            assert truth.standard_error == 0 < ratio.standard_error < 0.2 * ratio.value
            scores.append((ratio.value - truth.value) / ratio.standard_error)
    scores = torch.tensor(scores)
    assert scores.abs().max() < 5
    assert 0.6 < scores.square().mean().sqrt() < 1.6
    assert scores.mean().abs() < 0.6


def test_previous_layer_follows_the_longest_path():
    model = nn.Sequential(Block(3, 4), Block(4, 5), Block(5, 5)).double()
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    ratios = gradient_ratios(model, lambda copied: copied(x), projections=8)
    earlier = {(ratio.layer, ratio.distance): ratio.earlier for ratio in ratios}
    assert earlier == {
        ('0.conv2', 1): '0.conv1',
        ('1.conv1', 1): '0.conv2',
        ('1.conv1', 2): '0.conv1',
        ('1.conv2', 1): '1.conv1',
        ('1.conv2', 2): '0.conv2',
        ('1.shortcut.0', 1): '0.conv2',
        ('1.shortcut.0', 2): '0.conv1',
        ('2.conv1', 1): '1.conv2',
        ('2.conv1', 2): '1.conv1',
        ('2.conv2', 1): '2.conv1',
        ('2.conv2', 2): '1.conv2',
    }
    assert all(ratio.value > 0 for ratio in ratios)


def test_nothing_of_the_model_changes():
    """Neither with frozen weights nor with a layer that counts its iterations and fills a window."""
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), CrossIterationBatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)
    )
    pair_conv_norm(model)
    model[0].requires_grad_(False)
    x = torch.randn(2, 3, 8, 8)
    model(x)
    before, fill = copy.deepcopy(model.state_dict()), int(model[1].window.fill)
    model.eval()
    ratios = gradient_ratios(model, lambda copied: copied(x))
    assert [ratio.earlier for ratio in ratios] == ['0', '0']
    assert not model.training
    assert not model[0].weight.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())
    assert int(model[1].window.fill) == fill
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class Shared(nn.Module):
    """A head that is used on two levels, and a convolution in between that no norm follows."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.lateral = nn.Conv2d(4, 4, 1)
        self.head, self.head_norm = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)

    def forward(self, x):
        x = self.lateral(self.norm(self.stem(x)))
        for _ in range(2):
            x = self.head_norm(self.head(x)).relu()
        return x


def test_shared_layer_counts_at_its_first_use():
    model, x = Shared().double(), torch.randn(2, 3, 8, 8, dtype=torch.float64)
    ratios = gradient_ratios(model, lambda copied: copied(x))
    assert [(ratio.layer, ratio.earlier) for ratio in ratios] == 2 * [('head', 'stem')]
    prefix = nn.Sequential(model.stem, model.norm, model.lateral, model.head)
    assert ratios[0].value == pytest.approx(oracle(prefix, 'mean', x, '3', '0'), rel=1e-9)


class Frozen(nn.BatchNorm2d):
    def train(self, mode=True):
        return super().train(False)


def test_model_without_batch_statistics():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), Frozen(4), nn.Conv2d(4, 4, 3), nn.GroupNorm(2, 4))
    with pytest.raises(ValueError, match='Sequential has no convolution .* batch norm in training mode'):
        gradient_ratios(model, lambda copied: copied(torch.randn(2, 3, 8, 8)))
    with pytest.raises(ValueError, match='projections must be at least 2, got 1'):
        gradient_ratios(plain(), lambda copied: None, projections=1)


RATIOS = [
    Ratio('b', 'mean', 1, 'a', 0.2, 0.03),
    Ratio('c', 'mean', 1, 'b', 0.4, 0.04),
    Ratio('c', 'mean', 2, 'a', 0.1, 0.0),
    Ratio('b', 'mean_square', 1, 'a', 0.6, 0.0),
]


def test_means_by_hand():
    first, second, third = mean_ratios(RATIOS)
    assert (first.statistic, first.distance, first.layers) == ('mean', 1, 2)
    assert first.value == pytest.approx(0.3)
    assert first.standard_error == pytest.approx(0.025)
    assert first.largest.layer == 'c'
    assert (second.statistic, second.distance, second.value) == ('mean', 2, 0.1)
    assert (third.statistic, third.layers) == ('mean_square', 1)


def test_plot(tmp_path):
    plot_gradient_ratios(RATIOS, tmp_path / 'ratios.png', 'a model')
    assert matplotlib.image.imread(tmp_path / 'ratios.png').std() > 0
