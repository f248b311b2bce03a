"""The configs that docs/choosing.md recommends: which norm stands where, and what follows the batch size."""

import re
from copy import deepcopy
from dataclasses import dataclass

import pytest
import torch
from mmcv.cnn import ConvModule, fuse_conv_bn
from mmdet.testing import demo_mm_inputs
from torch import nn

from mmdet_cbn.layers import AveragedBatchNorm2d
from tests.configs.building import CONFIGS, build, read


@dataclass(frozen=True)
class Recommended:
    """A detector with its norm.

    Args:
        name: In the names of configs.
        learning_rate: Of MMDetection's own config, for 16 images.
        norm: Class of the layers.
        parts: How many of them each part has.
        hooks: In the config.
    """

    name: str
    learning_rate: float
    norm: type[nn.Module]
    parts: dict[str, int]
    hooks: tuple[dict[str, str], ...]

    def config(self, images: int) -> str:
        return f'recommended/{self.name}_8xb{images}-1x_coco'


HOOK = {'type': 'CrossIterationHook', 'window_size': 'auto'}
TWO_STAGES = {'neck': 8, 'roi_head.bbox_head': 4}
MASKS = {**TWO_STAGES, 'roi_head.mask_head': 4}
DETECTORS = (
    Recommended('mask-rcnn_r50_fpn_4conv1fc_avgbn', 0.02, AveragedBatchNorm2d, MASKS, (HOOK,)),
    Recommended('faster-rcnn_r50_fpn_4conv1fc_avgbn', 0.02, AveragedBatchNorm2d, TWO_STAGES, (HOOK,)),
    Recommended(
        'retinanet_r50_fpn_avgbn', 0.01, AveragedBatchNorm2d, {'neck': 8, 'bbox_head': 5 * 8}, (HOOK,)
    ),
    Recommended('retinanet_r50_fpn_gn', 0.01, nn.GroupNorm, {'neck': 8, 'bbox_head': 8}, ()),
)
IMAGES = (1, 2, 4)

each_detector = pytest.mark.parametrize('detector', DETECTORS, ids=[detector.name for detector in DETECTORS])


def test_the_folder_has_these_configs():
    files = {f'recommended/{path.stem}' for path in (CONFIGS / 'recommended').glob('*.py')}
    assert files == {detector.config(images) for detector in DETECTORS for images in IMAGES}


@pytest.mark.parametrize('images', IMAGES)
@each_detector
def test_what_follows_the_images_of_a_batch(detector, images):
    cfg = read(detector.config(images))
    assert cfg.train_dataloader.batch_size == images
    assert cfg.optim_wrapper.optimizer.lr == detector.learning_rate
    assert cfg.auto_scale_lr == {'enable': True, 'base_batch_size': 16}
    assert tuple(cfg.get('custom_hooks', ())) == detector.hooks


@each_detector
def test_norm_of_each_part(detector):
    model = build(read(detector.config(2))).train()
    parts = {part: model.get_submodule(part) for part in detector.parts}
    assert {part: len(norms_of(module, detector.norm)) for part, module in parts.items()} == detector.parts
    assert len(norms_of(model, detector.norm)) == sum(detector.parts.values())
    backbone = norms_of(model.backbone, nn.BatchNorm2d)
    assert len(backbone) == 53
    assert not any(norm.training for norm in backbone)


def test_levels_share_convolutions_and_no_norm():
    head = build(read('recommended/retinanet_r50_fpn_avgbn_8xb2-1x_coco')).bbox_head
    for levels in (head.cls_convs, head.reg_convs):
        assert [len({id(level[place].conv) for level in levels}) for place in range(4)] == [1] * 4
        assert len({id(module.bn) for level in levels for module in level}) == 5 * 4


def test_shared_convolutions_are_copied_before_folding():
    """As configs/recommended/README.md says: folding scales a convolution once for each norm behind it."""
    cfg = read('_base_/quickstart_retinanet_r18')
    cfg.model.bbox_head.norm_cfg = {'type': 'AvgBN'}
    head = build(cfg, 'cpu').bbox_head.eval()
    for norm in norms_of(head, AveragedBatchNorm2d):
        nn.init.uniform_(norm.running_var, 0.5, 2)
    maps = [torch.randn(1, 64, size, size) for size in (8, 4, 2, 1)]
    expected, _ = head(maps)
    wrong, _ = fuse_conv_bn(deepcopy(head))(maps)
    assert not torch.allclose(wrong[0], expected[0], atol=1e-3)
    for module in head.modules():
        if isinstance(module, ConvModule):
            module.conv = deepcopy(module.conv)
    folded, _ = fuse_conv_bn(head)(maps)
    assert not norms_of(head, AveragedBatchNorm2d)
    torch.testing.assert_close(folded, expected)


@pytest.mark.slow
@each_detector
def test_training_step(detector):
    cfg = read(detector.config(2))
    if 'roi_head' in cfg.model:  # 32 instead of 512 regions, to save time
        cfg.model.train_cfg.rcnn.sampler.num = 32
    model = build(cfg, 'cpu').train()
    masks = 'mask' in detector.name
    batch = demo_mm_inputs(2, [(3, 64, 96), (3, 64, 64)], num_items=[3, 4], num_classes=80, with_mask=masks)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-5)
    for _ in range(2):  # the second one has averages
        losses = model(**model.data_preprocessor(batch, training=True), mode='loss')
        loss, parts = model.parse_losses(losses)
        assert all(value.isfinite() for value in parts.values()), parts
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    norms = {name: m.weight.grad for name, m in model.named_modules() if isinstance(m, detector.norm)}
    assert all(gradient.isfinite().all() for gradient in norms.values())
    without = {name for name, gradient in norms.items() if not gradient.any()}
    boxes = {name for name in norms if re.fullmatch(r'bbox_head\.reg_convs\.\d\.\d\.bn', name)}
    assert without <= boxes  # of levels on which no object is, where each level has norms of its own
    assert not boxes or boxes - without
    assert all(norm.window.gradients.any() for norm in norms_of(model, AveragedBatchNorm2d))


def norms_of(module: nn.Module, kind: type[nn.Module]) -> list[nn.Module]:
    return [m for m in module.modules() if isinstance(m, kind)]
