"""Released detectors: what an old checkpoint made from a new model is converted to."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

pytest.importorskip('mmdet')

from mmcv.ops import RoIAlign
from mmdet.structures import DetDataSample
from mmengine.runner import load_checkpoint

from mmdet_cbn.checkpoints import CATALOGUE, CheckpointError, convert_checkpoint
from mmdet_cbn.checkpoints.convert import convert_detector
from tests.helpers.released import META, as_released, build, save_as_released
from tests.helpers.snapshot import assert_same

MASK_GN = CATALOGUE['mask-rcnn_r50_fpn_4conv1fc_gn'].config


@pytest.fixture(scope='module')
def model() -> nn.Module:
    """A Mask R-CNN with GN whose tensors are random."""
    return build(MASK_GN)


@pytest.fixture(scope='module')
def old(model) -> OrderedDict:
    """The tensors of that model as MMDetection 0.6 would have held them."""
    return as_released(model)


@pytest.fixture(scope='module')
def converted(old, tmp_path_factory) -> Path:
    """What the converter makes of them."""
    folder = tmp_path_factory.mktemp('converted')
    source = save_as_released(old, folder / 'old.pth')
    convert_checkpoint(source, folder / 'new.pth')
    return folder / 'new.pth'


@pytest.fixture(scope='module')
def loaded(converted) -> nn.Module:
    """Another model, with other random tensors, that has loaded the converted file."""
    fresh = build(MASK_GN, seed=1)
    load_checkpoint(fresh, str(converted), strict=True)
    return fresh


def test_every_tensor_comes_back(model, loaded):
    assert_same(loaded.state_dict(), model.state_dict())


def test_bbox_head_gives_the_old_outputs(loaded, old):
    head = loaded.roi_head.bbox_head
    inputs = []
    hook = head.fc_cls.register_forward_hook(lambda _, args, __: inputs.append(args[0]))
    with torch.no_grad():
        scores, deltas = head(torch.randn(5, 256, 7, 7))
    hook.remove()
    old_scores = F.linear(inputs[0], old['bbox_head.fc_cls.weight'], old['bbox_head.fc_cls.bias'])
    old_deltas = F.linear(inputs[0], old['bbox_head.fc_reg.weight'], old['bbox_head.fc_reg.bias'])
    torch.testing.assert_close(scores[:, 80], old_scores[:, 0])
    torch.testing.assert_close(scores[:, :80], old_scores[:, 1:])
    torch.testing.assert_close(deltas.view(5, 80, 4), old_deltas.view(5, 81, 4)[:, 1:])


def test_mask_head_gives_the_old_outputs(loaded, old):
    head = loaded.roi_head.mask_head
    inputs = []
    hook = head.conv_logits.register_forward_hook(lambda _, args, __: inputs.append(args[0]))
    with torch.no_grad():
        logits = head(torch.randn(5, 256, 14, 14))
    hook.remove()
    weight, bias = old['mask_head.conv_logits.weight'], old['mask_head.conv_logits.bias']
    torch.testing.assert_close(logits, F.conv2d(inputs[0], weight, bias)[:, 1:])


def test_meta_is_kept_and_optimizer_dropped(converted, old):
    checkpoint = torch.load(converted, weights_only=True)
    assert checkpoint.keys() == {'meta', 'state_dict'}
    assert checkpoint['meta'] == META
    for key, tensor in checkpoint['state_dict'].items():  # no rows saved that were cut off
        assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size(), key


@pytest.mark.slow
@pytest.mark.parametrize('name', [name for name, released in CATALOGUE.items() if released.config])
def test_every_released_model_loads_strictly(name):
    """Keys carry ``module.``; the norms of FPN and heads counted no batches, as the authors' CBN."""
    if name.endswith('cbn'):
        pytest.importorskip('mmdet_cbn.layers')
    model = build(CATALOGUE[name].config)
    old = as_released(model)
    for key in [k for k in old if k.endswith('.num_batches_tracked') and not k.startswith('backbone.')]:
        assert old.pop(key) == 0
    fresh = build(CATALOGUE[name].config, seed=1)
    converted = convert_detector(old)
    assert converted.keys() == {k for k in fresh.state_dict() if not k.endswith('.iterations')}
    fresh.load_state_dict(converted, strict=True)
    assert_same(fresh.state_dict(), model.state_dict())


def test_module_prefix(model, old, converted, tmp_path):
    source = save_as_released(as_released(model, prefix='module.'), tmp_path / 'old.pth')
    convert_checkpoint(source, tmp_path / 'new.pth')
    expected = torch.load(converted, weights_only=True)['state_dict']
    assert_same(torch.load(tmp_path / 'new.pth', weights_only=True)['state_dict'], expected)


def refuse(state_dict: dict, tmp_path: Path) -> str:
    """Convert what must be refused; return the message."""
    source = save_as_released(state_dict, tmp_path / 'old.pth')
    with pytest.raises(CheckpointError) as caught:
        convert_checkpoint(source, tmp_path / 'new.pth')
    assert [path.name for path in tmp_path.iterdir()] == ['old.pth']
    return str(caught.value)


def test_all_that_is_wrong_is_listed(old, tmp_path):
    wrong = dict(old)
    wrong['bbox_head.fc_cls.weight'] = torch.zeros(21, 1024)
    wrong['mask_head.conv_logits.bias'] = torch.zeros(80)
    wrong['neck.extra.weight'] = torch.zeros(1)
    del wrong['rpn_head.rpn_cls.bias']
    message = refuse(wrong, tmp_path)
    assert 'shape: bbox_head.fc_cls.weight is (21, 1024) and should be (81, 1024)' in message
    assert 'shape: mask_head.conv_logits.bias is (80,) and should be (81,)' in message
    assert 'unknown: neck.extra.weight' in message
    assert 'missing: rpn_head.rpn_cls.bias' in message
    assert message.count('\n') == 4


def test_other_architectures_are_refused(tmp_path):
    retina = {'backbone.conv1.weight': torch.zeros(64, 3, 7, 7)}
    retina['bbox_head.retina_cls.weight'] = torch.zeros(720, 256, 3, 3)
    assert 'unknown: bbox_head.retina_cls.weight' in refuse(retina, tmp_path)


def test_a_converted_checkpoint_is_refused(converted, tmp_path):
    again = torch.load(converted, weights_only=True)['state_dict']
    assert 'unknown: roi_head.bbox_head.fc_cls.weight' in refuse(again, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize('detector', ['faster-rcnn', 'mask-rcnn'])
def test_old_geometry(detector):
    """Every part of the config keeps it, and the model detects with it."""
    model = build(CATALOGUE[f'{detector}_r50_fpn_4conv1fc_gn'].config, randomize=False)
    anchors = model.rpn_head.prior_generator.base_anchors[0]
    assert anchors.tolist() == [[-21, -9, 24, 12], [-14, -14, 17, 17], [-9, -21, 12, 24]]
    for coder in (model.rpn_head.bbox_coder, model.roi_head.bbox_head.bbox_coder):
        unmoved = coder.decode(torch.tensor([[10.0, 10.0, 19.0, 29.0]]), torch.zeros(1, 4))
        assert unmoved.tolist() == [[9.5, 9.5, 19.5, 29.5]]  # 10 x 20 pixels
    roi_aligns = [module for module in model.modules() if isinstance(module, RoIAlign)]
    assert len(roi_aligns) == 4 * (1 + model.with_mask)
    assert {(layer.aligned, layer.sampling_ratio) for layer in roi_aligns} == {(False, 2)}

    sample = DetDataSample(metainfo={'img_shape': (128, 160), 'ori_shape': (128, 160)})
    sample.set_metainfo({'scale_factor': (1.0, 1.0)})
    assert model.rpn_head.test_cfg.max_per_img == 2000
    model.rpn_head.test_cfg.max_per_img = 50  # for speed
    model.roi_head.test_cfg.score_thr = 0.0
    image = torch.randint(0, 255, (3, 128, 160), dtype=torch.uint8)
    found = model.test_step({'inputs': [image], 'data_samples': [sample]})[0].pred_instances
    assert len(found) == 100
    assert ('masks' in found) == model.with_mask
