"""CmBN against the formulas, written with a list of the micro-batches of a step."""

import pickle
from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmdet_cbn.layers import CrossIterationBatchNorm2d, CrossMiniBatchNorm2d, convert_batch_norm, end_step
from mmdet_cbn.layers.local_state import load_local_state, local_state

MICRO_BATCHES = 3
EPS = 1e-5


class ListNorm(nn.Module):
    """The oracle: statistics of the step's micro-batches in a list, gradients through the last one."""

    def __init__(self, channels: int, most: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.most = most
        self.step: list[tuple[torch.Tensor, torch.Tensor]] = []

    def forward(self, x):
        mean, square = x.mean((0, 2, 3)), x.square().mean((0, 2, 3))
        used = [*self.step, (mean, square)][-self.most :]
        self.step.append((mean.detach(), square.detach()))
        mu = sum(mean for mean, _ in used) / len(used)
        var = sum(square for _, square in used) / len(used) - mu.square()
        values = [value[:, None, None] for value in (mu, var, self.weight, self.bias)]
        return (x - values[0]) / (values[1] + EPS).sqrt() * values[2] + values[3]


def model_with(norm: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.ReLU(), nn.Conv2d(4, 2, 1)).double()


@pytest.mark.parametrize('window_size', [MICRO_BATCHES, 8, 2])
def test_a_training_is_that_of_the_formulas(window_size):
    ours = CrossMiniBatchNorm2d(4, window_size=window_size)
    models = [model_with(norm) for norm in (ours, ListNorm(4, window_size))]
    optimizers = [torch.optim.SGD(model.parameters(), 0.1, momentum=0.9) for model in models]
    for _ in range(5):
        for _ in range(MICRO_BATCHES):
            x = torch.randn(2, 3, 6, 6, dtype=torch.float64) + torch.rand(1, dtype=torch.float64)
            outputs = [model(x) for model in models]
            torch.testing.assert_close(*outputs, rtol=1e-9, atol=1e-9)
            for output in outputs:
                (output.square().mean() / MICRO_BATCHES).backward()
        for ours, theirs in zip(*(model.parameters() for model in models), strict=True):
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-12)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        end_step(models[0])
        models[1][1].step.clear()


def test_without_accumulation_it_is_batch_norm():
    ours, bn = CrossMiniBatchNorm2d(4), nn.BatchNorm2d(4)
    for _ in range(3):
        x = torch.randn(2, 4, 5, 5)
        torch.testing.assert_close(ours(x), bn(x))
        end_step(ours)
    torch.testing.assert_close(ours.running_var, bn.running_var)


def test_a_step_ends_for_cmbn_alone():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), CrossMiniBatchNorm2d(4))
    convert_batch_norm(model, 'CBN')
    model.append(nn.Identity())
    for _ in range(2):
        model(torch.randn(2, 3, 5, 5)).sum().backward()
    assert isinstance(model[1], CrossIterationBatchNorm2d)
    end_step(model)
    assert [int(model[place].window.fill) for place in (1, 3)] == [2, 0]
    end_step(CrossMiniBatchNorm2d(4))  # which has no window yet


def test_it_is_saved_copied_and_recognized_as_every_layer():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), CrossMiniBatchNorm2d(4, window_size=8, sync=True, burn_in=1))
    assert _BatchNorm in type(model[1]).__bases__  # at which MMEngine's init_cfg looks
    assert 'window_size=8, burn_in=1, sync=True' in repr(model[1])
    for _ in range(3):
        model(torch.randn(2, 3, 6, 6)).sum().backward()
    twin, loaded = pickle.loads(pickle.dumps(model)), deepcopy(model)
    loaded.load_state_dict(twin.state_dict())
    load_local_state(loaded, local_state(model))
    x = torch.randn(2, 3, 6, 6)
    expected = model(x)
    for one in (twin, loaded):
        assert torch.equal(one(x), expected)
    assert model[1].window.fill == 3
