"""``averaging='growing'`` against a list of all past entries, along training trajectories in float64."""

import pytest
import torch
from torch import nn

from mmdet_cbn.layers import CrossIterationBatchNorm2d, NaiveCrossIterationBatchNorm2d, pair_conv_norm
from mmdet_cbn.layers.cross_iteration_norm import WINDOWS
from mmdet_cbn.layers.growing_window import GrowingWindow
from mmdet_cbn.layers.local_state import load_local_state, local_state
from tests.helpers.following import GEOMETRIES, follow, make_conv
from tests.helpers.literal_exponential import LiteralGrowingCBN

GROWING = {'averaging': 'growing', 'dtype': torch.float64}


@pytest.mark.parametrize('window_gradient', [False, True])
@pytest.mark.parametrize('geometry', ['3x3', 'groups', 'bias'])
def test_cbn_is_the_average_of_all_past_entries(geometry, window_gradient):
    conv = make_conv(GEOMETRIES[geometry])
    channels = conv.out_channels
    norm = CrossIterationBatchNorm2d(channels, window_size=2, window_gradient=window_gradient, **GROWING)
    oracle = LiteralGrowingCBN(channels, 2, window_gradient=window_gradient)
    follow(norm, conv, oracle, lr=0.05, steps=60)  # k is reached in step 26
    assert len(oracle.past) == 60


def test_naive_cbn_likewise():
    conv = make_conv(GEOMETRIES['3x3'])
    norm = NaiveCrossIterationBatchNorm2d(conv.out_channels, window_size=9, **GROWING)
    follow(norm, conv, LiteralGrowingCBN(conv.out_channels, 9, compensate=False), lr=0.1, steps=60)


def test_the_span_grows_by_one_iteration_in_25_until_it_is_k():
    block = nn.Sequential(
        nn.Conv2d(3, 4, 3), CrossIterationBatchNorm2d(4, window_size=5, averaging='growing')
    )
    pair_conv_norm(block)
    fills = []
    for _ in range(120):
        block(torch.randn(2, 3, 5, 5))
        fills.append(float(block[1].window.fill))
    assert fills[:76] == pytest.approx([1 + t / 25 for t in range(76)], rel=1e-4)
    assert fills[-1] == pytest.approx(5)


def test_a_window_without_entries_has_a_fill_of_0():
    assert float(GrowingWindow(5, torch.zeros(3)).fill) == 0


@pytest.mark.parametrize('kinds', [('growing', 'exponential'), ('exponential', 'growing')])
def test_another_averaging_begins_anew(kinds):
    """A growing window is an exponential one besides, and must not pass for it."""
    norm, other = (NaiveCrossIterationBatchNorm2d(4, averaging=kind) for kind in kinds)
    for _ in range(3):
        norm(torch.randn(2, 4, 5, 5))
    other.load_state_dict(norm.state_dict())
    (reason,) = load_local_state(other, local_state(norm)).values()
    assert f'averaging={kinds[1]!r}' in reason
    norm.averaging = kinds[1]
    norm(torch.randn(2, 4, 5, 5))
    assert type(norm.window) is WINDOWS[kinds[1]]
    assert float(norm.window.fill) == pytest.approx(1)
