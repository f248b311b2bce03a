"""The configs that docs/choosing.md recommends: which norm stands where, and what follows the batch size."""

import pytest
import torch
from mmdet.testing import demo_mm_inputs
from torch import nn

from mmdet_cbn.layers import AveragedBatchNorm2d
from tests.configs.building import CONFIGS, build, read

# Of each detector: the learning rate of MMDetection's own config for 16 images, and AvgBN layers by part.
DETECTORS = {
    'mask-rcnn_r50_fpn_4conv1fc': (0.02, {'neck': 8, 'roi_head.bbox_head': 4, 'roi_head.mask_head': 4}),
    'faster-rcnn_r50_fpn_4conv1fc': (0.02, {'neck': 8, 'roi_head.bbox_head': 4}),
    'retinanet_r50_fpn': (0.01, {'neck': 8, 'bbox_head': 8}),
}
IMAGES = (1, 2, 4)


def name(detector: str, images: int) -> str:
    return f'recommended/{detector}_avgbn_8xb{images}-1x_coco'


each_config = pytest.mark.parametrize(
    ('detector', 'images'), [(detector, images) for detector in DETECTORS for images in IMAGES]
)
each_detector = pytest.mark.parametrize('detector', DETECTORS)


def test_the_folder_has_these_configs():
    files = {path.stem for path in (CONFIGS / 'recommended').glob('*.py')}
    assert files == {name(d, n).removeprefix('recommended/') for d in DETECTORS for n in IMAGES}


@each_config
def test_what_follows_the_images_of_a_batch(detector, images):
    cfg = read(name(detector, images))
    assert cfg.train_dataloader.batch_size == images
    assert cfg.optim_wrapper.optimizer.lr == DETECTORS[detector][0]
    assert cfg.auto_scale_lr == {'enable': True, 'base_batch_size': 16}
    assert cfg.custom_hooks == [{'type': 'CrossIterationHook', 'window_size': 'auto'}]


@each_detector
def test_norm_of_each_part(detector):
    model = build(read(name(detector, 2))).train()
    found = {
        part: norms_of(model.get_submodule(part), AveragedBatchNorm2d) for part in DETECTORS[detector][1]
    }
    assert {part: len(norms) for part, norms in found.items()} == DETECTORS[detector][1]
    assert len(norms_of(model, AveragedBatchNorm2d)) == sum(map(len, found.values()))
    backbone = norms_of(model.backbone, nn.BatchNorm2d)
    assert len(backbone) == 53
    assert not any(norm.training for norm in backbone)


@pytest.mark.slow
@each_detector
def test_training_step(detector):
    cfg = read(name(detector, 2))
    if 'roi_head' in cfg.model:  # 32 instead of 512 regions, to save time
        cfg.model.train_cfg.rcnn.sampler.num = 32
    model = build(cfg, 'cpu').train()
    batch = demo_mm_inputs(
        2, [(3, 64, 96), (3, 64, 64)], num_items=[3, 4], num_classes=80, with_mask='mask' in detector
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-5)
    for _ in range(2):  # the second one has averages
        losses = model(**model.data_preprocessor(batch, training=True), mode='loss')
        loss, parts = model.parse_losses(losses)
        assert all(value.isfinite() for value in parts.values()), parts
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for norm in norms_of(model, AveragedBatchNorm2d):
        assert norm.weight.grad.isfinite().all()
        assert norm.window.gradients.any()


def norms_of(module: nn.Module, kind: type[nn.Module]) -> list[nn.Module]:
    return [m for m in module.modules() if isinstance(m, kind)]
