"""R50-wc: from a ResNet-50 of torchvision's, in the layouts that MABN's code saves."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision

from mmdet_cbn.checkpoints import CheckpointError, convert_checkpoint


@pytest.fixture(scope='module')
def reference() -> dict[str, torch.Tensor]:
    """A ResNet-50 as MABN leaves it: no mean, a second moment in ``running_var``."""
    state_dict = torchvision.models.resnet50().state_dict()
    for key, tensor in state_dict.items():
        if key.endswith('.running_var'):
            tensor.uniform_(0.5, 2.0)
    return state_dict


def classification(reference: dict) -> dict:
    """As the classification code saves it: training buffers and classifier included."""
    saved = {}
    for key, tensor in reference.items():
        if key.endswith('.running_var'):
            norm = key.removesuffix('.running_var')
            saved[f'{norm}.iters'] = torch.ones(1)
            saved[f'{norm}.sta_matrix'] = torch.ones(16, 32)
            saved[f'{norm}.pre_x2'] = torch.ones(16, len(tensor))
            saved[f'{norm}.pre_gz'] = torch.ones(16, len(tensor))
        if not key.endswith(('.running_mean', '.num_batches_tracked')):
            saved[key] = tensor
    return {'model': saved, 'iteration': 600_000}


def maskrcnn_benchmark(reference: dict) -> dict:
    """As maskrcnn-benchmark names it: under a stem, statistics with four dimensions."""
    saved = {}
    for key, tensor in reference.items():
        if key.startswith('fc.') or key.endswith(('.running_mean', '.num_batches_tracked')):
            continue
        old = f'module.backbone.body.{"" if key.startswith("layer") else "stem."}{key}'
        if key.endswith('.running_var'):
            saved[old.replace('running_var', 'buffer_gz')] = torch.zeros(16, len(tensor))
            saved[old.replace('running_var', 'buffer_x2')] = torch.zeros(16, len(tensor))
            tensor = tensor.view(1, -1, 1, 1)
        saved[old] = tensor
    return {'model': saved}


def bare(reference: dict) -> dict:
    """Nothing but tensors."""
    return classification(reference)['model']


def convert(checkpoint: dict, folder: Path) -> Path:
    torch.save(checkpoint, folder / 'R50-wc.pth')
    convert_checkpoint(folder / 'R50-wc.pth', folder / 'backbone.pth')
    return folder / 'backbone.pth'


@pytest.mark.parametrize('layout', [classification, maskrcnn_benchmark, bare])
def test_every_tensor_arrives(layout, reference, tmp_path):
    converted = convert(layout(reference), tmp_path)
    state_dict = torch.load(converted, weights_only=True)['state_dict']
    expected = {key: tensor for key, tensor in reference.items() if not key.startswith('fc.')}
    assert state_dict.keys() == expected.keys()
    for key, tensor in expected.items():
        assert state_dict[key].dtype == tensor.dtype
        assert torch.equal(state_dict[key], tensor), key


def test_it_initializes_a_backbone(reference, tmp_path):
    pytest.importorskip('mmdet')
    from mmdet.models import ResNet

    converted = convert(maskrcnn_benchmark(reference), tmp_path)
    init_cfg = {'type': 'Pretrained', 'checkpoint': str(converted)}
    backbone = ResNet(depth=50, init_cfg=init_cfg)
    backbone.init_weights()
    for key, tensor in backbone.state_dict().items():
        assert torch.equal(tensor, reference[key]), key


def test_weights_trained_with_bn_are_refused(reference, tmp_path):
    trained = dict(reference, **{'layer1.0.bn1.running_mean': torch.ones(64)})
    with pytest.raises(CheckpointError, match='BN, not MABN'):
        convert(trained, tmp_path)
    assert not (tmp_path / 'backbone.pth').exists()


def test_another_depth_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match='unknown: layer3.6.conv1.weight'):
        convert(torchvision.models.resnet101().state_dict(), tmp_path)
    assert not (tmp_path / 'backbone.pth').exists()
