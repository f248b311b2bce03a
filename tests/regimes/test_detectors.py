"""MMDetection's own RetinaNet in the regimes that its configs switch on.

What ``frozen_stages`` and ``norm_eval`` do to the modes of the layers: ``tests/test_stock_models.py``.
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
from mmengine.config import ConfigDict
from mmengine.evaluator import BaseMetric
from mmengine.hooks import EMAHook
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from small_detector import METHODS, STEPS, assert_equal, assert_finite, norms_of, remembered
from torch import Tensor, nn
from torch.utils.data import DataLoader

import mmdet_cbn  # noqa: F401  registers the layers
from mmdet_cbn.layers import pair_conv_norm

every_method = pytest.mark.parametrize('method', METHODS)
ARGUMENTS = {
    'BN': {},
    'CBN': {'window_size': 4},
    'NaiveCBN': {'window_size': 4},
    'MABN': {'buffer_size': 4, 'warmup_iters': 3},
    'BRN': {'warmup_iters': 10},
}


def retinanet(method: str, norm_in_head: bool = True, **backbone: object) -> dict:
    """Two stages of a narrow ResNet-18, five levels, and a head that they share."""
    norm_cfg = {'type': method, **ARGUMENTS[method]}
    conv_cfg = {'type': 'CenConv2d'} if method == 'MABN' else None
    return {
        'type': 'RetinaNet',
        'data_preprocessor': {'type': 'DetDataPreprocessor', 'mean': [128] * 3, 'std': [74] * 3},
        'backbone': {
            'type': 'ResNet',
            'depth': 18,
            'base_channels': 8,
            'stem_channels': 8,
            'num_stages': 2,
            'strides': (1, 2),
            'dilations': (1, 1),
            'out_indices': (0, 1),
            'conv_cfg': conv_cfg,
            'norm_cfg': norm_cfg,
            'norm_eval': False,
            **backbone,
        },
        'neck': {'type': 'FPN', 'in_channels': [8, 16], 'out_channels': 8, 'num_outs': 5},
        'bbox_head': {
            'type': 'RetinaHead',
            'num_classes': 2,
            'in_channels': 8,
            'feat_channels': 8,
            'stacked_convs': 1,
            'conv_cfg': conv_cfg if norm_in_head else None,
            'norm_cfg': norm_cfg if norm_in_head else None,
            'anchor_generator': {
                'type': 'AnchorGenerator',
                'octave_base_scale': 4,
                'scales_per_octave': 1,
                'ratios': [1.0],
                'strides': [4, 8, 16, 32, 64],
            },
            'bbox_coder': {'type': 'DeltaXYWHBBoxCoder'},
            'loss_cls': {'type': 'FocalLoss', 'use_sigmoid': True},
            'loss_bbox': {'type': 'L1Loss'},
        },
        'train_cfg': {
            'assigner': {'type': 'MaxIoUAssigner', 'pos_iou_thr': 0.5, 'neg_iou_thr': 0.4, 'min_pos_iou': 0},
            'sampler': {'type': 'PseudoSampler'},
            'allowed_border': -1,
            'pos_weight': -1,
        },
        'test_cfg': {
            'nms_pre': 20,
            'score_thr': 0.0,
            'nms': {'type': 'nms', 'iou_threshold': 0.5},
            'max_per_img': 5,
        },
    }


def build(method: str, **config: object) -> nn.Module:
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = MODELS.build(ConfigDict(retinanet(method, **config)))
    model.init_weights()  # a Runner does it otherwise
    pair_conv_norm(model)
    return model.train()


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
    return {'losses': torch.stack(losses), **remembered(model)}


@every_method
def test_with_cp_and_frozen_stages(method):
    """Checkpointed or not, the rest trains equally and what is frozen does not move."""
    results = []
    for with_cp in (False, True):
        model = build(method, with_cp=with_cp, frozen_stages=1)
        frozen = {name: value for name, value in remembered(model).items() if is_frozen(name)}
        assert frozen
        results.append(train_by_hand(model))
        assert_equal(frozen, {name: value for name, value in results[-1].items() if is_frozen(name)})
        for name, norm in norms_of(model).items():
            assert bool(norm.iterations) != is_frozen(name), name
    # A pass without gradients moves the running statistics of CBN as it does those of BN.
    twice = ('running_mean', 'running_var', 'num_batches_tracked') if 'CBN' in method else ()
    assert_equal(*results, but=twice)


def is_frozen(name: str) -> bool:
    return name.startswith(('backbone.conv1', 'backbone.bn1', 'backbone.layer1'))


@lru_cache
def with_norm_eval(method: str) -> dict[str, Tensor]:
    model = build(method, norm_in_head=False, norm_eval=True, conv_cfg=None)
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
    assert_equal({name: value for name, value in trained.items() if name not in own}, expected)


@every_method
def test_ema_hook_leaves_training_alone(method, tmp_path):
    """Validation with the averaged weights, four times on the way, leaves no trace in the layers."""
    by_hand = build(method)
    decay, averages = 0.3, {}

    def average(step: int) -> None:
        for name, value in by_hand.named_parameters():
            value = value.detach().clone()
            averages[name] = (1 - decay) * averages[name] + decay * value if step else value

    expected = train_by_hand(by_hand, average)
    del expected['losses']

    hook = EMAHook(momentum=decay)
    model = build(method)
    run(model, hook, tmp_path)
    assert_equal(remembered(model), expected)
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
    batches = DataLoader(range(STEPS), collate_fn=lambda steps: batch(steps[0]))
    Runner(
        model=model,
        work_dir=str(work_dir),
        train_dataloader=batches,
        train_cfg={'by_epoch': False, 'max_iters': STEPS, 'val_interval': 5},
        val_dataloader=DataLoader(range(1), collate_fn=lambda steps: batch(steps[0])),
        val_cfg={},
        val_evaluator=[Finite()],
        optim_wrapper=OptimWrapper(torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)),
        custom_hooks=[{'type': 'CrossIterationHook'}, hook],
        default_hooks={'checkpoint': None},
        default_scope='mmdet',
        experiment_name=work_dir.name,
        log_level='WARNING',
    ).train()
