"""A training step as a CUDA graph: what it asks for on any device, and captured on a GPU."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from copy import deepcopy
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from mmdet_cbn.layers import (
    CrossIterationBatchNorm2d,
    CrossIterationNorm,
    NaiveCrossIterationBatchNorm2d,
    StatefulNorm,
)
from tests.helpers.blocks import LAYERS, make_block
from tests.helpers.operations import RecordedOperations
from tests.helpers.snapshot import assert_nearly_same, snapshot

MADE = LAYERS | {
    'CBN, fraction 1/8': partial(CrossIterationBatchNorm2d, 6, derivative_fraction=1 / 8),
    'CBN after burn-in': partial(CrossIterationBatchNorm2d, 6, burn_in=2),
    'NaiveCBN, exponential': partial(NaiveCrossIterationBatchNorm2d, 6, averaging='exponential'),
}
every_made = pytest.mark.parametrize('make', MADE.values(), ids=MADE)
WARM_UP = 4  # steps: burn-in and the first step with a window
# What waits for the GPU, or whose result has a shape that depends on values.
FORBIDDEN = {
    'aten::_local_scalar_dense',
    'aten::item',
    'aten::equal',
    'aten::is_nonzero',
    'aten::nonzero',
    'aten::masked_select',
    'aten::unique_dim',
    'aten::_unique2',
    'aten::bincount',
    'aten::repeat_interleave',
}


def images(steps: int) -> Iterator[Tensor]:
    """Yield the inputs of a run; one in the middle has an overflow."""
    for step in range(steps):
        x = torch.randn(4, 4, 13, 8)
        if step == steps - 2:
            x[0, 0, 0, 0] = float('inf')
        yield x


def training_step(block: nn.Module, x: Tensor, autocast: bool = False) -> None:
    with torch.autocast(x.device.type, torch.bfloat16) if autocast else nullcontext():
        out = block(x)
    out.square().sum().backward()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter -= 1e-3 * parameter.grad.nan_to_num(0.0, 0.0, 0.0)  # as after an overflow
            parameter.grad = None


@every_made
@pytest.mark.parametrize('autocast', [False, True], ids=['float32', 'bfloat16'])
def test_every_step_asks_for_the_same(make, autocast):
    """After the first step with a window, which allocates it, whatever the values are.

    Once more the steps become others, and fewer, where warm-ups end: BRN's is 3 steps here, MABN's 1000.
    """
    block, steps = make_block(make), []
    for x in images(WARM_UP + 6):
        with RecordedOperations() as record:
            training_step(block, x, autocast)
        steps.append(record.operations)
    assert FORBIDDEN.isdisjoint(operation.name for step in steps for operation in step)
    assert steps[WARM_UP:] == [steps[WARM_UP]] * 6


class WithoutValues(RecordedOperations):
    """Gives tensors without values the one operation of the layers that torch lacks for them."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.batch_norm_update_stats.default:
            x = args[0]
            return x.new_empty(x.size(1)), x.new_empty(x.size(1))
        return super().__torch_dispatch__(func, types, args, kwargs)


@every_made
def test_nothing_leaves_the_device(make):
    """On a device without values nothing can be read, and what is made elsewhere shows."""
    conv, norm = make_block(make).to('meta')
    for _ in range(WARM_UP + 1):
        x = torch.empty(4, 4, 13, 8, device='meta', requires_grad=True)
        with WithoutValues() as record:
            # Not forward, which turns autocast off: there is none for this device.
            norm.train_forward(conv(x)).sum().backward()
        assert {device for operation in record.operations for device in operation.devices} == {'meta'}
    assert len(record.operations) > 20


@every_made
def test_state_stays_in_its_place(make):
    block = make_block(make)

    def places() -> dict[str, int]:
        windows = [vars(m.window) for m in block if getattr(m, 'window', None) is not None]
        kept = [*block.state_dict().items(), *(item for window in windows for item in window.items())]
        return {name: value.data_ptr() for name, value in kept if isinstance(value, Tensor)}

    before = None
    for step, x in enumerate(images(WARM_UP + 6)):
        training_step(block, x)
        if step == WARM_UP:
            before = places()
    assert len(before) >= 7
    assert places() == before


def captured(block: nn.Module, batches: list[Tensor]) -> tuple[Callable[[], None], Tensor]:
    """Warm a step up on ``batches``, one after the other, and capture it; return its replay and its input."""
    x = batches[0].clone()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for batch in batches:
            training_step(block, x.copy_(batch))
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        training_step(block, x)
    return graph.replay, x


@pytest.mark.gpu
@every_made
def test_a_captured_step_trains_as_an_eager_one(make):
    """Burn-in, window, counters and averages included; the run has an overflow."""
    block = make_block(make).double().cuda()
    twin = deepcopy(block)
    batches = [x.double().cuda() for x in images(WARM_UP + 8)]
    replay, x = captured(block, batches[:WARM_UP])
    for batch in batches[WARM_UP:]:
        x.copy_(batch)
        replay()
    for batch in batches:
        training_step(twin, batch)
    found = snapshot(block)
    assert all(value.isfinite().all() for value in found.values())
    assert_nearly_same(found, snapshot(twin), 1e-9)


@pytest.mark.gpu
@every_made
def test_a_graphed_callable_trains_as_the_layer(make):
    """Its three warm-ups are iterations, with gradients of nobody's making, which MABN would average."""
    block = make_block(make).double().cuda()
    batches = [torch.randn(4, 4, 13, 8, dtype=torch.float64, device='cuda') for _ in range(WARM_UP + 6)]
    for batch in batches[:WARM_UP]:
        training_step(block, batch)
    twin = deepcopy(block)
    norm = next(module for module in block if isinstance(module, StatefulNorm))
    averages = None if isinstance(norm, CrossIterationNorm) else deepcopy(norm.state_dict())
    graphed = torch.cuda.make_graphed_callables(block, (batches[0],))
    if averages:
        norm.load_state_dict(averages)
    else:
        for _ in range(3):
            twin(batches[0])
    for batch in batches[WARM_UP:]:
        for model, parameters in ((graphed, block.parameters()), (twin, twin.parameters())):
            model(batch).square().sum().backward()
            with torch.no_grad():
                for parameter in parameters:
                    parameter -= 1e-3 * parameter.grad
                    parameter.grad = None
        assert_nearly_same(snapshot(block), snapshot(twin), 1e-9)
