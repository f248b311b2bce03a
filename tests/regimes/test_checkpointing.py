"""Activation checkpointing: the blocks run twice an iteration, and the layers count once.

That a single layer does so is tested in ``tests/layers/test_special_inputs.py``, mmdet's ``with_cp`` in
``test_detectors.py`` beside this file.
"""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from mmdet_cbn.layers import pair_conv_norm
from tests.helpers.norms import NORMS, WINDOWED
from tests.helpers.small_detector import SmallDetector, detection_loss, images, train
from tests.helpers.snapshot import assert_same, snapshot

every_kind = pytest.mark.parametrize('kind', NORMS)
# A pass without gradients moves the running statistics of CBN as it does those of BN.
MOVED_TWICE = ('running_mean', 'running_var', 'num_batches_tracked')


def validate(model: nn.Module) -> None:
    """Evaluate the model in the middle of training."""
    model.eval()
    with torch.no_grad():
        detection_loss(model, images(0))
    model.train()


@pytest.mark.slow
@every_kind
@pytest.mark.parametrize('use_reentrant', [False, True], ids=['non-reentrant', 'reentrant'])
def test_checkpointing_equals_the_plain_run(kind, use_reentrant):
    """With a head shared by five levels where that can be told apart; evaluated between the steps."""
    runs = []
    for mode in (None, use_reentrant):
        model = SmallDetector(kind, mode, shared_head=not use_reentrant)
        losses = train(model, after_step=lambda step, model=model: step % 5 or validate(model))
        runs.append({'losses': torch.stack(losses), **snapshot(model)})
    twice = use_reentrant and kind in WINDOWED
    assert_same(*runs, but=MOVED_TWICE if twice else ())


@every_kind
def test_reentrant_checkpointing_of_a_shared_head_is_refused(kind):
    """Its second passes come level by level, each after another one has changed the memory."""
    model = SmallDetector(kind, use_reentrant=True)
    with pytest.raises(RuntimeError, match='use_reentrant=False'):
        detection_loss(model, images(0)).backward()


@every_kind
def test_calls_that_cannot_be_told_apart_are_refused(kind):
    """Two batches of one size before the backward pass."""
    model = SmallDetector(kind, use_reentrant=False, shared_head=False)
    loss = detection_loss(model, images(0)) + detection_loss(model, images(1))
    with pytest.raises(RuntimeError, match='which of 2 calls'):
        loss.backward()


@every_kind
def test_graphs_that_live_on_are_not_repeated_again(kind):
    """A training loop that keeps its losses with their graphs wastes memory, and that is all."""
    runs = []
    for use_reentrant in (None, False):
        model = SmallDetector(kind, use_reentrant)
        kept = []

        def keep(model: nn.Module, x: torch.Tensor, kept: list = kept) -> torch.Tensor:
            kept.append(detection_loss(model, x))
            return kept[-1]

        train(model, keep, map(images, range(5)))
        runs.append(snapshot(model))
    assert_same(*runs)


@every_kind
def test_a_graph_may_be_repeated_twice(kind):
    """With ``retain_graph`` the second backward pass recomputes what the first one did."""
    gradients = []
    for use_reentrant in (None, False):
        model = SmallDetector(kind, use_reentrant)
        train(model, batches=map(images, range(5)))
        loss = detection_loss(model, images(5))
        loss.backward(retain_graph=True)
        loss.backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    assert_same(*gradients)


@every_kind
def test_a_pass_without_gradients_before_is_refused_until_the_mode_is_set(kind):
    """It looks like the first pass of the reentrant kind; ``model.train()`` says that it is over."""
    model = SmallDetector(kind, use_reentrant=False)
    with torch.no_grad():
        detection_loss(model, images(0))
    with pytest.raises(RuntimeError, match=r'model\.train\(\)'):
        detection_loss(model, images(1)).backward()
    model.train()
    model.zero_grad()
    detection_loss(model, images(2)).backward()


@every_kind
def test_a_batch_without_a_backward_pass_is_skipped(kind):
    """A loss that is not wanted, an interruption: the blocks' layers, all checkpointed, never see it."""
    norm = NORMS[kind]
    runs = []
    for skips in (False, True):
        torch.manual_seed(0)
        block = nn.Sequential(norm.conv(3, 4, 3), norm(4), nn.ReLU())
        pair_conv_norm(block)
        for step in range(6):
            if skips and step in (0, 3):
                checkpoint(block, torch.randn(2, 3, 8, 8, requires_grad=True), use_reentrant=True)
            x = (torch.arange(384.0).view(2, 3, 8, 8) * (step + 1)).cos().requires_grad_()
            checkpoint(block, x, use_reentrant=True).square().sum().backward()
        runs.append(snapshot(block))
    assert_same(*runs, but=MOVED_TWICE if kind in WINDOWED else ())


@every_kind
def test_two_batches_before_the_backward_pass_are_refused_in_the_reentrant_kind(kind):
    model = SmallDetector(kind, use_reentrant=True, shared_head=False)
    loss = detection_loss(model, images(0)) + detection_loss(model, images(1))
    with pytest.raises(RuntimeError, match=r'which of \d calls'):
        loss.backward()
