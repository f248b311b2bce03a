"""Population statistics of part of a model against means and variances written out."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

pytest.importorskip('mmdet')

from experiments.common.running_statistics import SlowStatistics
from experiments.detection.statistics_hook import use_population_statistics


class Detector(nn.Module):
    """A frozen layer and a trained one; it takes batches as MMEngine gives them."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.BatchNorm2d(3).double()
        self.backbone.running_mean += 0.5
        self.head = nn.BatchNorm2d(3).double()

    def train(self, mode=True):
        super().train(mode)
        self.backbone.eval()
        return self

    def data_preprocessor(self, data, training):
        assert training
        return data

    def forward(self, inputs, mode):
        assert mode == 'loss'
        return self.head(self.backbone(inputs))


def test_frozen_layers_keep_their_statistics():
    torch.manual_seed(0)
    model = Detector().train()
    batches = [{'inputs': 3 * torch.randn(size, 3, 4, 5, dtype=torch.float64) + 1} for size in (4, 4)]
    use_population_statistics(model, batches)
    seen = [(batch['inputs'] - 0.5) / (1 + 1e-5) ** 0.5 for batch in batches]
    mean = sum(x.mean((0, 2, 3)) for x in seen) / 2
    var = sum(x.var((0, 2, 3), correction=1) for x in seen) / 2
    assert_close(model.head.running_mean, mean, rtol=0, atol=1e-12)
    assert_close(model.head.running_var, var, rtol=1e-12, atol=0)
    assert model.backbone.running_mean.tolist() == [0.5] * 3
    assert model.backbone.running_var.tolist() == [1.0] * 3


def test_only_what_trains_is_followed():
    model = Detector().train()
    slow = SlowStatistics(model, images=2)
    x = torch.full((2, 3, 4, 5), 1.5, dtype=torch.float64)
    for _ in range(3):
        model(x, 'loss')
        slow.update()
    slow.put_in_place()
    kept = 1 - 0.1 * 2 / 32  # of the momentum in proportion to the batch
    assert_close(
        model.head.running_mean, torch.ones(3, dtype=torch.float64) * (1 - kept**3), rtol=1e-4, atol=0
    )
    assert model.backbone.running_mean.tolist() == [0.5] * 3
