# A RetinaNet for images of 128 pixels, beside the small Mask R-CNN: the same backbone, which is to be
# trained before, and channels. Its head has norms of its own for each of the FPN's levels, of
# which there is no fifth: that would have one position, which no batch of one image can normalize.
_base_ = 'mmdet::_base_/models/retinanet_r50_fpn.py'
channels = 64
norm_cfg = dict(type='BN')
model = dict(
    backbone=dict(depth=18, stem_channels=32, base_channels=32, init_cfg=None),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=channels, num_outs=4, norm_cfg=norm_cfg),
    bbox_head=dict(
        type='RetinaSepBNHead',
        num_ins=4,
        num_classes=4,
        in_channels=channels,
        feat_channels=channels,
        norm_cfg=norm_cfg,
        anchor_generator=dict(ratios=[1.0], strides=[8, 16, 32, 64]),
    ),
    test_cfg=dict(nms_pre=200, max_per_img=20),
)
