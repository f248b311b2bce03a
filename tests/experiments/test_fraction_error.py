"""What derivative_fraction changes, measured beside a run that it leaves as it is."""

import pytest
import torch
from torch import nn

pytest.importorskip('mmdet')

from experiments.fraction_error import NAIVE, FractionError
from mmdet_cbn.layers import CrossIterationBatchNorm2d, pair_conv_norm


def train(fractions=()):
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(3, 8, 3, padding=1), CrossIterationBatchNorm2d(8, window_size=3)
    model = nn.Sequential(conv, norm)
    pair_conv_norm(model)
    watch = FractionError([(norm, conv)], fractions) if fractions else None
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(6):
        optimizer.zero_grad()
        (model(torch.randn(8, 3, 16, 12)) * torch.randn(8, 8, 16, 12)).mean().backward()
        optimizer.step()
    return model, watch


def test_the_run_is_not_changed():
    (alone, _), (watched, watch) = train(), train((1 / 4, NAIVE))
    assert all(map(torch.equal, alone.state_dict().values(), watched.state_dict().values()))
    watch.remove()
    assert not watched[1]._forward_pre_hooks


def test_an_estimate_is_better_than_no_correction():
    errors = train((1 / 2, 1 / 4, NAIVE))[1].errors()
    assert 0 < errors[1 / 2] < errors[NAIVE]
    assert 0 < errors[1 / 4] < errors[NAIVE]
