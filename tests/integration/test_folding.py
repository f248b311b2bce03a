"""Norms of this package fold into their convolutions as BN does, with mmcv's own function."""

import copy
import pickle

import pytest
import torch
from mmcv.cnn import fuse_conv_bn
from mmdet.registry import MODELS
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

import mmdet_cbn  # noqa: F401  registers the layers
from mmdet_cbn.layers import CenteredConv2d, fold_centering, pair_conv_norm
from tests.helpers.detectors import fpn, resnet18
from tests.helpers.norms import NORMS

CASES = {name: {'norm_cfg': norm.norm_cfg, 'conv_cfg': norm.conv_cfg} for name, norm in NORMS.items()} | {
    'CBN after CenConv2d': {'norm_cfg': {'type': 'CBN'}, 'conv_cfg': {'type': 'CenConv2d'}}
}


class Detector(nn.Module):
    """The parts of a detector that have norms: a ResNet and an FPN of mmdet."""

    def __init__(self, norm_cfg: dict, conv_cfg: dict | None) -> None:
        super().__init__()
        layers = {'norm_cfg': norm_cfg, 'conv_cfg': conv_cfg}
        self.backbone = MODELS.build(resnet18(**layers))
        self.neck = MODELS.build(fpn([8, 16, 32, 64], levels=4, **layers))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.neck(self.backbone(x))


def trained_model(case: dict) -> Detector:
    """Train for more steps than any warm-up, from gammas and betas that are not 1 and 0."""
    model = Detector(**case)
    pair_conv_norm(model)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    model.train()
    for _ in range(5):
        loss = sum((level - 1).square().mean() for level in model(3 * torch.randn(2, 3, 64, 64) + 1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@pytest.fixture(scope='module', params=CASES.values(), ids=CASES)
def trained(request) -> Detector:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return trained_model(request.param)


@pytest.fixture
def images() -> Tensor:
    return 3 * torch.randn(2, 3, 64, 64)


@torch.no_grad()
def assert_same_outputs(
    model: nn.Module, reference: nn.Module, images: Tensor, tolerance: float = 1e-5
) -> None:
    for level, expected in zip(model(images), reference(images), strict=True):
        assert (level - expected).abs().max() <= tolerance * expected.abs().max()


def count(model: nn.Module, kind: type) -> int:
    return sum(isinstance(module, kind) for module in model.modules())


def test_folding_leaves_outputs_unchanged(trained, images):
    fused = fuse_conv_bn(copy.deepcopy(trained))
    assert count(trained, _BatchNorm) == 20 + 8
    assert count(fused, _BatchNorm) == 0
    assert_same_outputs(fused, trained, images)


def test_folding_is_exact(trained, images):
    """What differs in float32 is rounding."""
    double = copy.deepcopy(trained).double()
    assert_same_outputs(fuse_conv_bn(copy.deepcopy(double)), double, images.double(), tolerance=1e-12)


@pytest.mark.parametrize('order', ['centering first', 'norm first'])
def test_folding_of_centred_weights(trained, images, order):
    folds = [fold_centering, fuse_conv_bn]
    model = copy.deepcopy(trained)
    for fold in folds if order == 'centering first' else reversed(folds):
        model = fold(model)
        assert_same_outputs(model, trained, images)
    assert count(model, CenteredConv2d) == 0
    assert count(model, _BatchNorm) == 0
    assert count(model, nn.Conv2d) == count(trained, nn.Conv2d)


@pytest.mark.parametrize('duplicate', [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_of_a_folded_model(trained, images, duplicate):
    fused = fuse_conv_bn(copy.deepcopy(trained))
    assert_same_outputs(duplicate(fused), trained, images)


def test_folded_model_gives_gradients(trained, images):
    """Fine-tuning a folded model: no hook of a norm that is gone gets in the way, in either mode."""
    fused = fuse_conv_bn(copy.deepcopy(trained)).train()
    sum(level.square().mean() for level in fused(images)).backward()
    assert fused.backbone.conv1.weight.grad is not None
    assert_same_outputs(fused, trained, images)
    pickle.dumps(fused)
