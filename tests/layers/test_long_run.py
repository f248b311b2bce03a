"""Long runs: a step costs the same at the end as at the start, and nothing outlives its model."""

import copy
import gc
import pickle
import sys
import tracemalloc
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from resource import getpagesize

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils._python_dispatch import TorchDispatchMode

from mmdet_cbn.layers import (
    CrossIterationBatchNorm2d,
    NaiveCrossIterationBatchNorm2d,
    pair_conv_norm,
)

STEPS = 2000


class CountedOps(TorchDispatchMode):
    """Count what torch is asked for, by the name of the operator."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls[str(func)] += 1
        return func(*args, **(kwargs or {}))


def graph_nodes(loss: Tensor) -> int:
    seen, front = set(), [loss.grad_fn]
    while front:
        node = front.pop()
        if node is not None and node not in seen:
            seen.add(node)
            front += [parent for parent, _ in node.next_functions]
    return len(seen)


@pytest.fixture
def new_objects() -> Iterator[Callable[[], Counter[str]]]:
    """Return a function that counts objects by type, those left aside that were there before the test."""
    gc.collect()
    gc.freeze()

    def count() -> Counter[str]:
        gc.collect()
        return Counter(type(thing).__name__ for thing in gc.get_objects())

    yield count
    gc.unfreeze()


def tensors_and_nodes(objects: Counter[str]) -> dict[str, int]:
    names = ('Tensor', 'Parameter', 'Buffer')
    return {k: n for k, n in objects.items() if k in names or 'Backward' in k}


def traced_bytes() -> int:
    sys._clear_type_cache()  # up to 4096 names of attributes, in which those that C code looks up come and go
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def resident_bytes() -> int:
    return int(Path('/proc/self/statm').read_text().split()[1]) * getpagesize()


@pytest.mark.slow
@pytest.mark.skipif(not Path('/proc/self/statm').exists(), reason='memory is read from /proc')
def test_step_2000_is_like_step_100(new_objects):
    """Times are noisy, so the work is counted: operators, autograd nodes, objects and bytes."""
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        CrossIterationBatchNorm2d(8, window_size=4, burn_in=20),
        nn.Conv2d(8, 8, 3, padding=1, groups=2),
        CrossIterationBatchNorm2d(8, window_size=3, window_gradient=True),
        nn.ReLU(),
        nn.Conv2d(8, 8, 1),
        NaiveCrossIterationBatchNorm2d(8),
    )
    pair_conv_norm(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    taken = 0

    def step() -> Tensor:
        nonlocal taken
        taken += 1
        x = torch.randn(2, 3, 8, 8)
        optimizer.zero_grad()
        loss = (model(x) - x[:, :1]).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    def run_until(last: int) -> None:
        while taken < last:
            step()

    def measure() -> tuple[Counter[str], int, dict[str, int]]:
        with CountedOps() as operators:
            nodes = graph_nodes(step())
        return operators.calls, nodes, tensors_and_nodes(new_objects())

    run_until(99)
    early = measure()
    assert early[0].total() > 100
    run_until(300)
    resident = [resident_bytes()]
    run_until(1100)
    resident.append(resident_bytes())
    run_until(1500)
    tracemalloc.start()
    try:
        run_until(1600)
        traced = traced_bytes()
        run_until(STEPS - 1)
        traced = traced_bytes() - traced
    finally:
        tracemalloc.stop()
    resident.append(resident_bytes())
    assert measure() == early
    # One tensor a step would be 400 times 80 bytes in Python, and 800 times 4 KiB in each half. The system
    # gives memory in pieces of up to 2 MiB, once in a while: what leaks grows in both halves.
    assert traced < 8_000
    assert min(after - before for before, after in pairwise(resident)) < 2 << 20
    for parameter in model.parameters():
        assert parameter.isfinite().all()


class Model(nn.Module):
    """Three convolutions with their norms; where ``fails`` is set, the second norm is not reached."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 8, 3), CrossIterationBatchNorm2d(8)
        self.conv2, self.norm2 = nn.Conv2d(8, 8, 1), CrossIterationBatchNorm2d(8)
        self.conv3, self.norm3 = nn.Conv2d(8, 8, 1), NaiveCrossIterationBatchNorm2d(8)
        self.fails = False

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(self.norm1(self.conv1(x)))
        if self.fails:
            raise KeyboardInterrupt('between a convolution and its norm')
        return self.norm3(self.conv3(self.norm2(y)))


def paired() -> Model:
    model = Model()
    pair_conv_norm(model)
    return model


def trained() -> Model:
    model = paired()
    for _ in range(3):
        model(torch.randn(2, 3, 8, 8)).square().sum().backward()
    return model


def interrupted() -> Model:
    model = trained()
    model.fails = True
    with suppress(KeyboardInterrupt):
        model(torch.randn(2, 3, 8, 8))
    return model


def copied_while_interrupted() -> Model:
    model = copy.deepcopy(interrupted())
    model.fails = False
    model(torch.randn(2, 3, 8, 8))
    return model


def fold(model: Model) -> None:
    """Fold norms as mmcv's ``fuse_conv_bn`` does: an Identity takes the place of the norm."""
    model.eval()
    for n in (1, 2, 3):
        conv = model.get_submodule(f'conv{n}')
        fused = fuse_conv_bn_eval(conv, model.get_submodule(f'norm{n}'))
        conv.weight, conv.bias = fused.weight, fused.bias
        setattr(model, f'norm{n}', nn.Identity())


def folded() -> Model:
    model = trained()
    fold(model)
    model(torch.randn(2, 3, 8, 8))
    return model


LIVES = {
    'paired': paired,
    'paired twice': lambda: pair_conv_norm(model := paired()) and model,
    'trained': trained,
    'deepcopy': lambda: copy.deepcopy(trained()),
    'pickle': lambda: pickle.loads(pickle.dumps(trained())),
    'interrupted': interrupted,
    'deepcopy while interrupted': copied_while_interrupted,
    'folded': folded,
}


@pytest.mark.parametrize('live', LIVES.values(), ids=LIVES)
def test_a_deleted_model_is_collected(live, new_objects):
    model = live()
    assert tensors_and_nodes(new_objects())
    alive = [weakref.ref(module) for module in model.modules()]
    del model
    assert tensors_and_nodes(new_objects()) == {}
    assert not any(reference() is not None for reference in alive)


def test_a_folded_norm_is_collected():
    model = trained()
    alive = weakref.ref(model.norm1)
    fold(model)
    gc.collect()
    assert alive() is None


def test_a_convolution_shared_by_several_norms_keeps_no_activations():
    conv = nn.Conv2d(3, 8, 3)
    levels = nn.ModuleList(nn.Sequential(conv, CrossIterationBatchNorm2d(8)) for _ in range(3))
    pair_conv_norm(levels)
    inputs = [torch.randn(2, 3, size, size) for size in (9, 7, 5)]
    sum(level(x).square().mean() for level, x in zip(levels, inputs, strict=True)).backward()
    alive = [weakref.ref(x) for x in inputs]
    del inputs
    gc.collect()
    assert [reference() for reference in alive] == [None] * 3


def test_an_interrupted_forward_keeps_no_activations():
    model = trained()
    model.fails = True
    x = torch.randn(2, 3, 8, 8)
    alive = weakref.ref(x)
    with suppress(KeyboardInterrupt):
        model(x)
    del x
    gc.collect()
    assert alive() is None


def test_a_frozen_norm_keeps_no_activations():
    """MMDetection's ``norm_eval`` and ``frozen_stages``: the convolution trains and its norm does not."""
    model = trained()
    for norm in (model.norm1, model.norm2, model.norm3):
        norm.eval()
    x = torch.randn(2, 3, 8, 8)
    alive = weakref.ref(x)
    model(x).square().sum().backward()
    del x
    gc.collect()
    assert alive() is None
