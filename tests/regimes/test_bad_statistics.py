"""Statistics that go bad: overflows during a training, and batches that leave a head without regions."""

import math
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from torch import distributed, nn

import mmdet_cbn  # noqa: F401  registers the layers
from mmdet_cbn.layers import CrossIterationBatchNorm2d, MovingAverageBatchNorm2d, pair_conv_norm
from tests.helpers import processes
from tests.helpers.detectors import mask_rcnn
from tests.helpers.norms import NORMS, Norm
from tests.helpers.snapshot import memory

every_norm = pytest.mark.parametrize('make', NORMS.values(), ids=NORMS)


def small_network(make: Norm) -> nn.Sequential:
    network = nn.Sequential(
        *(make.conv(3, 8, 3, bias=False), make(8), nn.ReLU()),
        *(make.conv(8, 8, 3, bias=False), make(8), nn.ReLU()),
        nn.Conv2d(8, 1, 1),
    )
    pair_conv_norm(network)
    return network


def overflow(value: float):
    """Spoil the activations behind the first convolution, as a float16 that overflows does."""

    def hook(module, inputs, output):
        spoiled = output.detach()
        spoiled[0, 0, 0, 0] = value

    return hook


BAD = {
    'inf': float('inf'),
    'nan': float('nan'),
    'squares overflow': 1e30,  # the mean is finite, the variance is not
}


class Training:
    """Steps as ``GradScaler`` takes them: skipped where a gradient is not finite."""

    def __init__(self, make: Norm) -> None:
        torch.manual_seed(0)
        self.network = small_network(make)
        self.optimizer = torch.optim.SGD(self.network.parameters(), 0.01, momentum=0.9)
        self.skipped = 0

    def step(self, value: float | None = None, scale: float = 1.0) -> float:
        # Before the convolution's output is known to the norm, which refuses what is changed behind it.
        hooks = self.network[0].register_forward_hook
        handle = None if value is None else hooks(overflow(value), prepend=True)
        x = torch.randn(2, 3, 10, 10)
        self.optimizer.zero_grad()
        loss = (self.network(x).mean(dim=(1, 2, 3)) - x.mean(dim=(1, 2, 3))).square().mean()
        (loss * scale).backward()
        gradients = [parameter.grad for parameter in self.network.parameters()]
        if all(gradient.isfinite().all() for gradient in gradients):
            self.optimizer.step()
        else:
            self.skipped += 1
        if handle:
            handle.remove()
        return loss.item()


@every_norm
@pytest.mark.parametrize('value', BAD.values(), ids=BAD)
def test_one_bad_iteration_leaves_the_memory_of_every_layer_behind_it(make, value):
    training = Training(make)
    for _ in range(12):
        training.step()
    network = training.network
    before = memory(network)
    weights = [parameter.detach().clone() for parameter in network.parameters()]
    training.step(value)
    after = memory(network)
    for name in before:
        # A value that is only large is normalized away before it comes to the second layer.
        if not name.endswith('iterations') and (name.startswith('1.') or not math.isfinite(value)):
            assert torch.equal(before[name], after[name]), name
    if not math.isfinite(value):
        assert training.skipped == 1
        for old, new in zip(weights, network.parameters(), strict=True):
            assert torch.equal(old, new)


@every_norm
def test_which_iterations_count(make):
    """Burn-in and BRN's ramp are spans of time; MABN's counter addresses its buffer."""
    training = Training(make)
    for _ in range(5):
        training.step()
    training.step(float('nan'))
    norm = training.network[1]
    waits = isinstance(norm, MovingAverageBatchNorm2d)
    assert norm.iterations == (5 if waits else 6)
    if hasattr(norm, 'iteration'):
        assert norm.iteration == 6
    training.step()
    assert norm.iterations == (6 if waits else 7)


@pytest.mark.slow
@every_norm
def test_a_thousand_iterations_one_in_twenty_bad(make):
    """Bad at random: in the activations, or in the gradients alone."""
    training = Training(make)
    kinds = [
        {'value': float('inf')},
        {'value': float('-inf')},
        {'value': float('nan')},
        {'scale': float('inf')},
        {'scale': float('nan')},
    ]
    bad = torch.rand(1000, generator=torch.Generator().manual_seed(1)) < 0.05
    losses = [training.step(**kinds[i % len(kinds)] if spoil else {}) for i, spoil in enumerate(bad)]
    assert 30 < bad.sum() < 70
    assert training.skipped == bad.sum()
    good = torch.tensor(losses)[~bad]
    assert good.isfinite().all()
    assert good[-100:].mean() < good[:20].mean()
    for name, value in {**memory(training.network), **dict(training.network.named_parameters())}.items():
        assert value.isfinite().all(), name
    network = training.network.eval()
    assert network(torch.randn(2, 3, 10, 10)).isfinite().all()


def test_derivatives_that_overflow_keep_an_entry_out():
    """The output and its statistics are as ever, the input at weights of zero is not."""
    block = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), CrossIterationBatchNorm2d(4, window_size=3))
    pair_conv_norm(block)
    with torch.no_grad():
        block[0].weight[:, 0] = 0
    for _ in range(4):
        block(torch.randn(2, 3, 6, 6))
    before = memory(block)
    x = torch.randn(2, 3, 6, 6)
    x[:, 0] = 3e38
    assert block(x).isfinite().all()
    for name, value in memory(block).items():
        if 'running' not in name and name not in ('1.iterations', '1.num_batches_tracked'):
            assert torch.equal(value, before[name]), name
    assert block(torch.randn(2, 3, 6, 6)).isfinite().all()


def detector(norm: dict, mask: bool, positives: bool) -> nn.Module:
    """Return a small Mask R-CNN or Faster R-CNN with the norm in both heads.

    Args:
        norm: The ``norm_cfg``.
        mask: Whether it is a Mask R-CNN.
        positives: Whether the boxes of the annotations are among the regions, as positive ones.
    """
    model = mask_rcnn()
    model.neck.norm_cfg = norm
    box_head = model.roi_head.bbox_head
    box_head.update(type='Shared4Conv1FCBBoxHead', conv_out_channels=16, norm_cfg=norm)
    model.train_cfg.rcnn.sampler.add_gt_as_proposals = positives
    if mask:
        model.roi_head.mask_head.norm_cfg = norm
    else:
        model.roi_head.mask_roi_extractor = model.roi_head.mask_head = None
    init_default_scope('mmdet')
    torch.manual_seed(0)
    return MODELS.build(model)


def batch(seed: int, boxes: int) -> dict:
    torch.manual_seed(seed)
    return demo_mm_inputs(2, [(3, 64, 64)] * 2, num_items=[boxes] * 2, num_classes=4, with_mask=True)


def train_beside(rank: int, bad_rank: int, kind: str, mask: bool, without: str, folder: Path) -> None:
    """Train 6 steps; in steps 2 and 3 process ``bad_rank`` has no annotations, or no positive region."""
    positives = without != 'positive regions'
    model = detector({'type': kind}, mask, positives)
    counted = [m for m in model.modules() if hasattr(m, 'iterations')]
    pair_conv_norm(model)
    if distributed.is_initialized():
        parallel = MMDistributedDataParallel(model, broadcast_buffers=False)
    else:
        parallel = model
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), 0.005))
    model.train()
    calls = []
    for step in range(6):
        bad = rank == bad_rank and step in (2, 3)
        if not positives:
            assigner = model.roi_head.bbox_assigner
            assigner.pos_iou_thr = assigner.min_pos_iou = assigner.neg_iou_thr = 1.1 if bad else 0.0
        losses = parallel.train_step(batch(10 * step + rank, 0 if bad and positives else 3), wrapper)
        assert losses['loss'].isfinite(), step
        calls.append([int(norm.iterations) for norm in counted])
    torch.save({'weights': model.state_dict(), 'calls': calls}, folder / f'{rank}.pt')


@pytest.mark.slow
@pytest.mark.parametrize('without', ['annotations', 'positive regions'])
@pytest.mark.parametrize('mask', [True, False], ids=['Mask R-CNN', 'Faster R-CNN'])
@pytest.mark.parametrize('number', [1, 2])
def test_batch_without_objects_on_one_process(tmp_path, number, mask, without):
    processes.run(train_beside, number - 1, 'CBN', mask, without, tmp_path, processes=number)
    ends = [torch.load(tmp_path / f'{rank}.pt') for rank in range(number)]
    for end in ends:
        for name, value in end['weights'].items():
            assert value.isfinite().all(), name
            if not name.rpartition('.')[2].startswith(('running', 'num_batches', 'iterations')):
                assert torch.equal(value, ends[0]['weights'][name]), name
    calls = torch.tensor(ends[-1]['calls']).diff(dim=0)
    skipping = (calls[1:3] == 0).all(dim=0)
    assert skipping.sum() == int(mask)  # the mask head's only norm
    assert (calls[3:] > 0).all()
