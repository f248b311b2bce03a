"""Running and population statistics against sums written out."""

import pytest
import torch
from torch import nn

from experiments.common.running_statistics import SlowStatistics
from experiments.digits.evaluation import evaluate, use_population_statistics
from experiments.digits.network import build_network
from experiments.digits.norms import COMPETITORS, make_norm
from experiments.digits.task import held_out_samples, training_samples

BATCH, STEPS = 4, 8
BATCH_NORMS = [name for name in COMPETITORS if name not in ('gn', 'gn-ws')]


def make_network(method):
    return build_network(make_norm(method, 3, 2, STEPS), COMPETITORS[method].conv).double().train()


def norms_of(network):
    return [block[1] for block in network if isinstance(block, nn.Sequential)]


def train(network, after_forward=lambda: None):
    optimizer = torch.optim.SGD(network.parameters(), 0.01)
    for batch in training_samples(0, 0, BATCH * STEPS).images.double().split(BATCH):
        loss = network(batch).square().mean()
        after_forward()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def entering(method, y):
    """What enters running statistics; of AvgBN and MABN the mean of squares, in MABN's first iterations."""
    values = y.detach().transpose(0, 1).flatten(1)
    if method.startswith('avgbn'):
        return values.mean(1), values.square().mean(1)
    if method.startswith('mabn'):
        return torch.zeros_like(values[:, 0]), values.square().mean(1)
    return values.mean(1), values.var(1)


@pytest.mark.parametrize('method', BATCH_NORMS)
def test_slow_statistics_average_what_enters_the_layers(method):
    network = make_network(method)
    slow = SlowStatistics(network, BATCH)
    momentum = {'brn': 0.01}.get(method, 0.1 * BATCH / 32)
    expected = [(norm.running_mean.clone(), norm.running_var.clone()) for norm in norms_of(network)]

    def average(number):
        def hook(norm, args):
            expected[number] = [
                (1 - momentum) * value + momentum * new
                for value, new in zip(expected[number], entering(method, *args), strict=True)
            ]

        return hook

    for number, norm in enumerate(norms_of(network)):
        norm.register_forward_pre_hook(average(number))
    train(network, slow.update)
    own = [norm.running_var.clone() for norm in norms_of(network)]
    slow.put_in_place()
    for norm, (mean, var), layers_own in zip(norms_of(network), expected, own, strict=True):
        var = var - mean**2 if method.startswith('avgbn') else var
        torch.testing.assert_close(norm.running_mean, mean, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(norm.running_var, var, rtol=1e-9, atol=1e-12)
        assert torch.allclose(norm.running_var, layers_own) is (method == 'brn')


@pytest.mark.parametrize(('images', 'momentum'), [(1, 0.1 / 32), (32, 0.1), (64, 0.1)])
def test_momentum_follows_the_batch_and_is_no_faster_than_the_layers_own(images, momentum):
    assert SlowStatistics(make_network('bn'), images).momentum == pytest.approx(momentum)
    assert SlowStatistics(make_network('mabn'), images).momentum == pytest.approx(min(momentum, 0.02))


@pytest.mark.parametrize('method', BATCH_NORMS)
def test_population_statistics_layer_by_layer(method):
    """Each is measured behind layers that normalize by population statistics, whatever they train by."""
    network = make_network(method)
    train(network)
    images = training_samples(1, 0, 40).images.double()
    use_population_statistics(network, images)
    x = images
    for block in network.eval()[:6]:
        conv, norm, _ = block
        mean, var = entering(method, conv(x))
        var = var - mean**2 if method.startswith('avgbn') else var
        # While they are measured, layers normalize by the biased variance: a part in 2,560 and less.
        torch.testing.assert_close(norm.running_mean, mean, rtol=0, atol=1e-3 * var.sqrt().max().item())
        torch.testing.assert_close(norm.running_var, var, rtol=2e-3, atol=0)
        x = block(x).detach()


def test_without_batch_statistics_nothing_changes():
    network = make_network('gn')
    slow = SlowStatistics(network, BATCH)
    train(network, slow.update)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    slow.put_in_place()
    use_population_statistics(network, training_samples(1, 0, 4).images.double())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


class Constant(nn.Module):
    """Says that all is class 3."""

    def __init__(self, score):
        super().__init__()
        self.score = score

    def forward(self, images):
        scores = torch.zeros(len(images), 10)
        scores[:, 3] = self.score
        return scores


def test_accuracy_and_loss():
    samples = held_out_samples('test', 300)
    loss, accuracy = evaluate(Constant(1.0), samples)
    share = (samples.labels == 3).sum().item() / 300
    assert accuracy == pytest.approx(share)
    assert loss == pytest.approx(torch.tensor(9 + torch.e).log().item() - share, rel=1e-5)
    assert evaluate(Constant(float('inf')), samples)[0] is None
