"""One small detector of each kind, as the dictionaries of which MMDetection builds its own parts."""

from pathlib import Path

from mmengine.config import Config, ConfigDict

TINY_MASK_RCNN = Path(__file__).with_name('tiny_mask_rcnn.py')
TEST_CFG = {
    'nms_pre': 50,
    'score_thr': 0.0,
    'nms': {'type': 'nms', 'iou_threshold': 0.5},
    'max_per_img': 5,
}


def resnet18(norm_cfg: dict, channels: int = 8, stages: int = 4, **options: object) -> ConfigDict:
    """Return a narrow backbone whose norms train; it has 20 of them in four stages, and 10 in two."""
    return ConfigDict(
        type='ResNet',
        depth=18,
        base_channels=channels,
        stem_channels=channels,
        num_stages=stages,
        strides=(1, 2, 2, 2)[:stages],
        dilations=(1,) * stages,
        out_indices=tuple(range(stages)),
        norm_cfg=norm_cfg,
        **{'norm_eval': False, **options},
    )


def fpn(in_channels: list[int], levels: int, norm_cfg: dict | None = None, **options: object) -> ConfigDict:
    """Return a neck of 8 channels."""
    return ConfigDict(
        type='FPN', in_channels=in_channels, out_channels=8, num_outs=levels, norm_cfg=norm_cfg, **options
    )


def retinanet(
    backbone: dict,
    neck: dict | None = None,
    head: dict | None = None,
    conv_cfg: dict | None = None,
    levels: int = 2,
    **of_backbone: object,
) -> ConfigDict:
    """Return a detector without anything random, whose head runs once for each level.

    RetinaNet assigns every anchor without sampling. With all norms it has 14 of them.

    Args:
        backbone: Its ``norm_cfg``, ...
        neck: ... that of the neck, ...
        head: ... and that of the head.
        conv_cfg: Of backbone and head.
        levels: Of the pyramid.
        **of_backbone: Further arguments of the backbone.
    """
    return ConfigDict(
        type='RetinaNet',
        data_preprocessor=dict(type='DetDataPreprocessor', mean=[90] * 3, std=[60] * 3),
        backbone=resnet18(backbone, channels=4, stages=2, conv_cfg=conv_cfg, **of_backbone),
        neck=fpn([4, 8], levels, norm_cfg=neck, start_level=1),
        bbox_head=dict(
            type='RetinaHead',
            num_classes=2,
            in_channels=8,
            feat_channels=8,
            stacked_convs=1,
            conv_cfg=conv_cfg,
            norm_cfg=head,
            anchor_generator=dict(
                type='AnchorGenerator',
                ratios=[1.0],
                octave_base_scale=4,
                scales_per_octave=1,
                strides=[8 * 2**level for level in range(levels)],
            ),
            bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
        ),
        train_cfg=dict(
            assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0),
            sampler=dict(type='PseudoSampler'),
            allowed_border=-1,
            pos_weight=-1,
        ),
        test_cfg=TEST_CFG,
    )


def fcos(norm_cfg: dict, neck_norm_cfg: dict) -> ConfigDict:
    """Return a detector whose head runs once for each of five levels."""
    return ConfigDict(
        type='FCOS',
        data_preprocessor=dict(type='DetDataPreprocessor', mean=[90] * 3, std=[60] * 3),
        backbone=resnet18(norm_cfg),
        neck=fpn([8, 16, 32, 64], levels=5, norm_cfg=neck_norm_cfg),
        bbox_head=dict(
            type='FCOSHead',
            num_classes=2,
            in_channels=8,
            feat_channels=8,
            stacked_convs=1,
            strides=[4, 8, 16, 32, 64],
            norm_cfg=norm_cfg,
        ),
        test_cfg=TEST_CFG,
    )


def mask_rcnn() -> ConfigDict:
    """Return a detector of two stages, with four classes."""
    return Config.fromfile(TINY_MASK_RCNN).model
