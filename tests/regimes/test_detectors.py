"""MMDetection's own RetinaNet in the regimes that its configs switch on.

``frozen_stages`` and ``norm_eval`` and the modes of the layers: ``tests/integration/test_stock_models.py``.
``EMAHook`` with evaluation and checkpoints: ``tests/hooks/test_cross_iteration_hook.py``.
"""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.evaluator import BaseMetric
from mmengine.hooks import EMAHook
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.utils.data import DataLoader

import mmdet_cbn  # noqa: F401  registers the layers
from mmdet_cbn.layers import pair_conv_norm
from tests.helpers import training
from tests.helpers.detectors import retinanet
from tests.helpers.norms import NORMS, WINDOWED
from tests.helpers.small_detector import METHODS, STEPS, assert_finite, norms_of
from tests.helpers.snapshot import assert_same, snapshot

pytestmark = pytest.mark.slow

every_method = pytest.mark.parametrize('method', METHODS)


def build(norm_cfg: dict, norm_in_head: bool = True, **backbone: object) -> nn.Module:
    init_default_scope('mmdet')
    torch.manual_seed(0)
    head = norm_cfg if norm_in_head else None
    model = MODELS.build(retinanet(norm_cfg, head=head, levels=5, **backbone))
    model.init_weights()  # a Runner does it otherwise
    pair_conv_norm(model)
    return model.train()


def build_norm(method: str, **backbone: object) -> nn.Module:
    norm = NORMS[method]
    return build(norm.norm_cfg, conv_cfg=norm.conv_cfg, **backbone)


@lru_cache
def batch(step: int) -> dict:
    """Two images of noise and their boxes, the same in all runs."""
    random = np.random.default_rng(step)
    inputs, samples = [], []
    for height, width in ((48, 64), (64, 48)):
        inputs.append(torch.from_numpy(random.integers(0, 256, (3, height, width), dtype=np.uint8)))
        corners = torch.from_numpy(random.uniform(0, 24, (2, 2))).float()
        boxes = torch.cat((corners, corners + torch.from_numpy(random.uniform(8, 24, (2, 2))).float()), 1)
        instances = InstanceData(bboxes=boxes, labels=torch.from_numpy(random.integers(0, 2, 2)))
        meta = {'img_shape': (height, width), 'scale_factor': (1.0, 1.0), 'img_id': step}
        samples.append(DetDataSample(metainfo=meta, gt_instances=instances))
    return {'inputs': inputs, 'data_samples': samples}


def train_by_hand(
    model: nn.Module, after_step: Callable[[int], None] = lambda step: None
) -> dict[str, Tensor]:
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), 0.01, momentum=0.9))
    losses = []
    for step in range(STEPS):
        losses.append(model.train_step(batch(step), wrapper)['loss'].detach())
        after_step(step)
    assert_finite(model, losses)
    return {'losses': torch.stack(losses), **snapshot(model)}


@every_method
def test_with_cp_and_frozen_stages(method):
    """Checkpointed or not, the rest trains equally and what is frozen does not move."""
    results = []
    for with_cp in (False, True):
        model = build_norm(method, with_cp=with_cp, frozen_stages=1)
        frozen = {name: value for name, value in snapshot(model).items() if is_frozen(name)}
        assert frozen
        results.append(train_by_hand(model))
        assert_same(frozen, {name: value for name, value in results[-1].items() if is_frozen(name)})
        for name, norm in norms_of(model).items():
            assert bool(norm.iterations) != is_frozen(name), name
    # A pass without gradients moves the running statistics of CBN as it does those of BN.
    twice = ('running_mean', 'running_var', 'num_batches_tracked') if method in WINDOWED else ()
    assert_same(*results, but=twice)


def is_frozen(name: str) -> bool:
    return name.startswith(('backbone.conv1', 'backbone.bn1', 'backbone.layer1'))


@lru_cache
def with_norm_eval(method: str) -> dict[str, Tensor]:
    norm_cfg = {'type': 'BN'} if method == 'BN' else NORMS[method].norm_cfg
    model = build(norm_cfg, norm_in_head=False, norm_eval=True)
    # As pre-trained statistics are: not those of a fresh layer.
    generator = torch.Generator().manual_seed(0)
    for name, buffer in model.named_buffers():
        if name.endswith(('running_mean', 'running_var')):
            buffer.add_(torch.rand(buffer.shape, generator=generator))
    return train_by_hand(model)


@every_method
def test_norm_eval_is_that_of_bn(method):
    trained, expected = with_norm_eval(method), with_norm_eval('BN')
    own = {name for name in trained if name.endswith(('iterations', 'chi2_buffer', 'psi_buffer'))}
    assert not any(trained[name].any() for name in own)
    assert_same({name: value for name, value in trained.items() if name not in own}, expected)


@every_method
def test_ema_hook_leaves_training_alone(method, tmp_path):
    """Validation with the averaged weights, four times on the way, leaves no trace in the layers."""
    by_hand = build_norm(method)
    decay, averages = 0.3, {}

    def average(step: int) -> None:
        for name, value in by_hand.named_parameters():
            value = value.detach().clone()
            averages[name] = (1 - decay) * averages[name] + decay * value if step else value

    expected = train_by_hand(by_hand, average)
    del expected['losses']

    hook = EMAHook(momentum=decay)
    model = build_norm(method)
    run(model, hook, tmp_path)
    assert_same(snapshot(model), expected)
    averaged = hook.ema_model.module
    for name, value in averaged.named_parameters():
        torch.testing.assert_close(value, averages[name], rtol=1e-5, atol=1e-6)
    for name, norm in norms_of(averaged).items():
        assert getattr(norm, 'window', None) is None, name  # it never trained


class Finite(BaseMetric):
    """Counts images whose detections are finite numbers."""

    def process(self, data_batch: dict, data_samples: list[dict]) -> None:
        self.results += [sample['pred_instances']['bboxes'].isfinite().all() for sample in data_samples]

    def compute_metrics(self, results: list) -> dict:
        assert all(results)
        return {'images': len(results)}


def run(model: nn.Module, hook: EMAHook, work_dir: Path) -> None:
    training.make_runner(
        work_dir,
        model,
        DataLoader(range(STEPS), collate_fn=lambda steps: batch(steps[0])),
        {'type': 'CrossIterationHook'},
        hook,
        train_cfg={'by_epoch': False, 'max_iters': STEPS, 'val_interval': 5},
        val_dataloader=DataLoader(range(1), collate_fn=lambda steps: batch(steps[0])),
        val_cfg={},
        val_evaluator=[Finite()],
        optim_wrapper=OptimWrapper(torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)),
        default_hooks={'checkpoint': None},
    ).train()
