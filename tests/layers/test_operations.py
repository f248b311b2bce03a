"""How many operations a training step issues: each is a launch on a GPU, and the count is exact."""

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from mmdet_cbn.layers import (
    BatchRenorm2d,
    CenteredConv2d,
    CrossIterationBatchNorm2d,
    MovingAverageBatchNorm2d,
    NaiveCrossIterationBatchNorm2d,
    pair_conv_norm,
)

C = 8
LIMITS = {
    'BN': (nn.BatchNorm2d, {}, 13),
    'CBN': (CrossIterationBatchNorm2d, {}, 55),
    'CBN, fraction 1/8': (CrossIterationBatchNorm2d, {'derivative_fraction': 1 / 8}, 63),
    'CBN, window_gradient': (CrossIterationBatchNorm2d, {'window_gradient': True}, 80),
    'CBN, exponential': (CrossIterationBatchNorm2d, {'averaging': 'exponential'}, 55),
    'CBN, exponential, fraction 1/8': (
        CrossIterationBatchNorm2d,
        {'averaging': 'exponential', 'derivative_fraction': 1 / 8},
        65,
    ),
    'CBN, exponential, window_gradient': (
        CrossIterationBatchNorm2d,
        {'averaging': 'exponential', 'window_gradient': True},
        85,
    ),
    'Naive CBN': (NaiveCrossIterationBatchNorm2d, {}, 42),
    'Naive CBN, exponential': (NaiveCrossIterationBatchNorm2d, {'averaging': 'exponential'}, 38),
    'MABN': (MovingAverageBatchNorm2d, {}, 45),
    'BRN': (BatchRenorm2d, {}, 35),
}


class Operations(TorchDispatchMode):
    """Counts what is not a view: no output shares the memory of an input that stays as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        aliases = [returned.alias_info for returned in func._schema.returns]
        if not any(alias is not None and not alias.is_write for alias in aliases):
            self.counts[str(func)] += 1
        return func(*args, **(kwargs or {}))


def settled_step(layer: type[nn.Module], arguments: dict[str, object]) -> Callable[[], None]:
    """Return a training step of a layer that is past its first iterations."""
    conv = CenteredConv2d if layer is MovingAverageBatchNorm2d else nn.Conv2d
    net = nn.Sequential(conv(C, C, 3, padding=1, bias=False), layer(C, **arguments), nn.ReLU())
    pair_conv_norm(net)

    def step() -> None:
        x = torch.randn(2, C, 9, 9, requires_grad=True)
        net(x).sum().backward()

    step()
    state = net.state_dict()
    net.load_state_dict({k: v + 10_000 if k.endswith('iterations') else v for k, v in state.items()})
    for _ in range(5):
        step()
    return step


@pytest.mark.parametrize('name', LIMITS)
def test_operations_of_a_step(name):
    layer, arguments, limit = LIMITS[name]
    step = settled_step(layer, arguments)
    with Operations() as operations:
        step()
    issued = operations.counts
    assert not [name for name in issued if 'local_scalar' in name or 'nonzero' in name]  # they wait for a GPU
    # The random input is none of the layer's.
    total = issued.total() - issued['aten.randn.default']
    assert total <= limit, f'{name}: {total} operations a step, at most {limit}\n{issued}'
