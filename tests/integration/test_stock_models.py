"""MMDetection's own models with nothing but their norm_cfg changed."""

from dataclasses import dataclass
from functools import reduce
from operator import getitem

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.runner import load_checkpoint
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

import mmdet_cbn  # noqa: F401  registers CBN
from mmdet_cbn.layers import CrossIterationBatchNorm2d, pair_conv_norm
from tests.helpers.norms import every_type

CBN = {'type': 'CBN', 'window_size': 3, 'requires_grad': True}


@dataclass
class Stock:
    """A config as mmdet ships it, and the parts of its model that take a norm_cfg."""

    config: str
    parts: tuple[str, ...]

    def build(self, norm_cfg: dict) -> nn.Module:
        model = get_config(f'mmdet::{self.config}').model
        for part in self.parts:
            reduce(getitem, part.split('.'), model).norm_cfg = norm_cfg
        # Without pre-trained weights, which are not to be had here. They come with norm_eval=True, under
        # which the norms of the backbone would not train at all.
        model.backbone.init_cfg = None
        model.backbone.norm_eval = False
        if 'roi_head' in model:  # 64 instead of 1,000 regions, to save minutes
            model.train_cfg.rcnn.sampler.num = 32
            model.test_cfg.rpn.max_per_img = 32
        init_default_scope('mmdet')
        torch.manual_seed(0)
        detector = MODELS.build(model)
        MMLogger.get_current_instance().setLevel('WARNING')  # each weight has its line otherwise
        detector.init_weights()
        return detector


STOCK_MODELS = {
    # mmdet's GN variant has the paper's box head of four convolutions.
    'mask-rcnn': Stock(
        'gn/mask-rcnn_r50_fpn_gn-all_2x_coco.py',
        ('backbone', 'neck', 'roi_head.bbox_head', 'roi_head.mask_head'),
    ),
    'retinanet': Stock('retinanet/retinanet_r50_fpn_1x_coco.py', ('backbone', 'neck', 'bbox_head')),
    'fcos': Stock('fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py', ('backbone', 'neck', 'bbox_head')),
    # mmdet's HRFPN takes a norm_cfg and makes no use of it.
    'hrnet': Stock('hrnet/faster-rcnn_hrnetv2p-w18-1x_coco.py', ('backbone',)),
    'resnext': Stock('faster_rcnn/faster-rcnn_x101-32x4d_fpn_1x_coco.py', ('backbone', 'neck')),
}


def random_batch() -> dict:
    shapes = [(3, 64, 96), (3, 64, 64)]
    return demo_mm_inputs(2, shapes, num_items=[3, 4], num_classes=80, with_mask=True)


def norms_of(model: nn.Module, kind: type = CrossIterationBatchNorm2d) -> dict[str, nn.Module]:
    return {name: module for name, module in model.named_modules() if isinstance(module, kind)}


class Feeders:
    """Notes for each norm which convolution made the very tensor that it gets, whatever the names say."""

    def __init__(self, model: nn.Module) -> None:
        self.of: dict[str, set[str | None]] = {}
        self._outputs: list[tuple[torch.Tensor, str]] = []
        self._handles = []
        for name, module in model.named_modules():
            if isinstance(module, nn.Conv2d):
                self._handles.append(module.register_forward_hook(self._note_output(name)))
            elif isinstance(module, CrossIterationBatchNorm2d):
                self._handles.append(module.register_forward_pre_hook(self._note_input(name)))

    def _note_output(self, name):
        def hook(module, inputs, output):
            self._outputs.append((output, name))

        return hook

    def _note_input(self, name):
        def hook(module, inputs):
            makers = [conv for output, conv in self._outputs if output is inputs[0]]
            self.of.setdefault(name, set()).add(makers[0] if makers else None)

        return hook

    def __enter__(self) -> 'Feeders':
        return self

    def __exit__(self, *exception: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._outputs.clear()


@pytest.mark.slow
@pytest.mark.parametrize('stock', STOCK_MODELS.values(), ids=STOCK_MODELS)
def test_stock_model_trains_and_evaluates(stock):
    model = stock.build(CBN)
    norms = norms_of(model)
    for part in stock.parts:
        assert any(name.startswith(f'{part}.') for name in norms)
    assert set(norms) == set(norms_of(model, _BatchNorm))

    pairs = pair_conv_norm(model)
    assert set(pairs) == set(norms)

    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9))
    model.train()
    batch = random_batch()
    before = {name: model.get_submodule(name).weight.detach().clone() for name in pairs.values()}
    for step in range(3):
        with Feeders(model) as feeders:
            losses = model.train_step(batch, wrapper)
        assert feeders.of == {norm: {conv} for norm, conv in pairs.items()}, step
        assert all(value.isfinite() for value in losses.values()), losses
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())

    training = {name: norm for name, norm in norms.items() if norm.training}
    for part in stock.parts:
        assert any(name.startswith(f'{part}.') for name in training)
    for name, norm in training.items():
        assert norm.iteration >= 3, name
        assert norm.window.fill == 2, name
        conv = model.get_submodule(pairs[name])
        assert not torch.equal(conv.weight, before[pairs[name]]), name

    model.eval()
    with torch.no_grad():
        results = model.test_step(batch)
    assert len(results) == 2
    for result in results:
        assert result.pred_instances.scores.isfinite().all()
        assert result.pred_instances.bboxes.isfinite().all()


@pytest.mark.parametrize('norm_eval', [True, False])
@pytest.mark.parametrize('frozen_stages', [-1, 1, 4])
def test_freezing_is_that_of_bn(norm_eval, frozen_stages):
    models = {}
    for kind in ('BN', 'CBN'):
        torch.manual_seed(1)
        cfg = {'type': 'ResNet', 'depth': 18, 'base_channels': 8, 'frozen_stages': frozen_stages}
        models[kind] = MODELS.build({**cfg, 'norm_eval': norm_eval, 'norm_cfg': {'type': kind}})
        models[kind].train()
    bn, cbn = models['BN'], models['CBN']
    assert norms_of(cbn)
    assert {n: m.training for n, m in cbn.named_modules()} == {n: m.training for n, m in bn.named_modules()}
    assert {n: p.requires_grad for n, p in cbn.named_parameters()} == {
        n: p.requires_grad for n, p in bn.named_parameters()
    }

    pair_conv_norm(cbn)
    x = torch.randn(2, 3, 64, 64)
    expected, outputs = bn(x), cbn(x)
    trains = {name for name, norm in norms_of(cbn).items() if norm.window is not None}
    assert trains == {name for name, norm in norms_of(bn, _BatchNorm).items() if norm.training}
    for ours, theirs in zip(outputs, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    for name, buffer in bn.named_buffers():
        torch.testing.assert_close(cbn.get_buffer(name), buffer)


def test_activation_checkpointing_changes_nothing():
    """with_cp runs the blocks twice an iteration, first without a graph."""
    models = []
    for with_cp in (False, True):
        torch.manual_seed(1)
        cfg = {'type': 'ResNet', 'depth': 50, 'base_channels': 8, 'stem_channels': 8, 'norm_eval': False}
        models.append(MODELS.build({**cfg, 'norm_cfg': CBN, 'with_cp': with_cp}).double())
        pair_conv_norm(models[-1])
    for _ in range(4):
        x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
        for model in models:
            model.zero_grad()
            sum(level.square().mean() for level in model(x)).backward()
        with torch.no_grad():
            for plain, checkpointed in zip(*(model.parameters() for model in models), strict=True):
                torch.testing.assert_close(checkpointed.grad, plain.grad, rtol=1e-8, atol=1e-10)
                for parameter in (plain, checkpointed):
                    parameter.sub_(0.01 * plain.grad)
    for plain, checkpointed in zip(*(norms_of(model).values() for model in models), strict=True):
        assert checkpointed.iteration == plain.iteration == 4
        torch.testing.assert_close(checkpointed.window.mean, plain.window.mean)


def test_requires_grad_of_norm_cfg_freezes_gamma_and_beta():
    norm_cfg = {'type': 'CBN', 'requires_grad': False}
    model = MODELS.build({'type': 'ResNet', 'depth': 18, 'base_channels': 8, 'norm_cfg': norm_cfg})
    for norm in norms_of(model).values():
        assert not norm.weight.requires_grad
        assert not norm.bias.requires_grad


@every_type
def test_norm_decay_mult_reaches_gamma_and_beta(kind):
    model = MODELS.build({'type': 'ResNet', 'depth': 18, 'base_channels': 8, 'norm_cfg': {'type': kind}})
    wrapper = build_optim_wrapper(
        model,
        {
            'optimizer': {'type': 'SGD', 'lr': 0.1, 'weight_decay': 1e-4},
            'paramwise_cfg': {'norm_decay_mult': 0.0},
        },
    )
    decays = {id(g['params'][0]): g['weight_decay'] for g in wrapper.optimizer.param_groups}
    norm_parameters = {id(p) for norm in norms_of(model, _BatchNorm).values() for p in norm.parameters()}
    for parameter in model.parameters():
        if parameter.requires_grad:
            assert decays[id(parameter)] == (0.0 if id(parameter) in norm_parameters else 1e-4)


@every_type
def test_bn_checkpoint_loads_without_a_word(kind, tmp_path, caplog):
    def build(norm: str) -> nn.Module:
        cfg = {'type': 'ResNet', 'depth': 18, 'base_channels': 8, 'norm_cfg': {'type': norm}}
        return MODELS.build(Config({'model': cfg}).model)

    bn = build('BN')
    for buffer in bn.buffers():
        buffer.copy_(torch.rand_like(buffer, dtype=torch.float32) * 100)
    torch.save({'state_dict': bn.state_dict()}, tmp_path / 'bn.pth')

    model = build(kind)
    keys = model.load_state_dict(bn.state_dict())
    assert not keys.missing_keys
    assert not keys.unexpected_keys

    logger = MMLogger('bn_checkpoint')
    logger.propagate = True
    with caplog.at_level('WARNING'):
        load_checkpoint(build(kind), str(tmp_path / 'bn.pth'), strict=True, logger=logger)
    assert 'missing' not in caplog.text
    assert 'unexpected' not in caplog.text

    for name, tensor in bn.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name
    for norm in norms_of(model, _BatchNorm).values():
        assert norm.iterations == 0
