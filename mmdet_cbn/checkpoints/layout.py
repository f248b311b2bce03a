"""Names and shapes of the tensors in the released checkpoints, in MMDetection 0.6's terms."""

from __future__ import annotations

import torch
from torchvision.models import resnet50

Layout = dict[str, tuple[int, ...]]

OLD_CLASSES = 81  # COCO's 80 and the background, which came first
ANCHORS = 3


def backbone_layout() -> Layout:
    """Tensors of a ResNet-50 without its classifier (torchvision's names are MMDetection's)."""
    with torch.device('meta'):
        state_dict = resnet50().state_dict()
    return {key: tuple(value.shape) for key, value in state_dict.items() if key[:3] != 'fc.'}


def detector_layout(norm: str | None, with_mask: bool) -> Layout:
    """Tensors of the CBN authors' Faster or Mask R-CNN R-50-FPN with the 4conv1fc box head.

    Args:
        norm: Name of the norm layers of FPN and heads in the keys: ``'bn'`` (also SyncBN's and
            CBN's), ``'gn'``, or None where FPN and heads have none.
        with_mask: Whether there is a mask head.

    Returns:
        Shape by key.
    """
    layout = {f'backbone.{key}': shape for key, shape in backbone_layout().items()}
    for level, channels in enumerate((256, 512, 1024, 2048)):
        layout |= _conv_module(f'neck.lateral_convs.{level}', (256, channels, 1, 1), norm)
        layout |= _conv_module(f'neck.fpn_convs.{level}', (256, 256, 3, 3), norm)
    layout |= _affine('rpn_head.rpn_conv', (256, 256, 3, 3))
    layout |= _affine('rpn_head.rpn_cls', (ANCHORS, 256, 1, 1))
    layout |= _affine('rpn_head.rpn_reg', (ANCHORS * 4, 256, 1, 1))
    for index in range(4):
        layout |= _conv_module(f'bbox_head.shared_convs.{index}', (256, 256, 3, 3), norm)
    layout |= _affine('bbox_head.shared_fcs.0', (1024, 256 * 7 * 7))
    layout |= _affine('bbox_head.fc_cls', (OLD_CLASSES, 1024))
    layout |= _affine('bbox_head.fc_reg', (OLD_CLASSES * 4, 1024))
    if with_mask:
        for index in range(4):
            layout |= _conv_module(f'mask_head.convs.{index}', (256, 256, 3, 3), norm)
        layout |= _affine('mask_head.upsample', (256, 256, 2, 2))
        layout |= _affine('mask_head.conv_logits', (OLD_CLASSES, 256, 1, 1))
    return layout


def _affine(name: str, weight: tuple[int, ...]) -> Layout:
    return {f'{name}.weight': weight, f'{name}.bias': weight[:1]}


def _conv_module(name: str, weight: tuple[int, ...], norm: str | None) -> Layout:
    if norm is None:
        return _affine(f'{name}.conv', weight)
    layout = {f'{name}.conv.weight': weight} | _affine(f'{name}.{norm}', weight[:1])
    if norm == 'bn':
        statistics = f'{name}.bn.running_mean', f'{name}.bn.running_var'
        layout |= dict.fromkeys(statistics, weight[:1])
        layout[f'{name}.bn.num_batches_tracked'] = ()
    return layout
