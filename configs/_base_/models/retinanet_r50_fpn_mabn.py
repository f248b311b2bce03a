# RetinaNet of the MABN authors, maskrcnn-benchmark's, where it differs from MMDetection 3's.
_base_ = ['mmdet::_base_/models/retinanet_r50_fpn.py', './mabn_backbone.py']
model = dict(
    data_preprocessor=_base_.mabn_images,
    backbone=_base_.mabn_backbone,
    neck=dict(
        type='PlainTopFPN',  # no norm in P6 and P7
        relu_before_extra_convs=True,  # between P6 and P7
        init_cfg=_base_.caffe2_init,
    ),
    bbox_head=dict(
        # Pixels are areas: a box is x2 - x1 + 1 wide.
        anchor_generator=dict(type='LegacyAnchorGenerator', center_offset=0.5),
        bbox_coder=dict(type='WholePixelBoxCoder', target_stds=[0.1, 0.1, 0.2, 0.2]),
        loss_bbox=dict(type='SmoothL1Loss', beta=0.11, loss_weight=1 / 4),  # their weight of 4 divides it
    ),
    test_cfg=dict(nms=dict(iou_threshold=0.4, offset=1)),
)
