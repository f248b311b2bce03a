# Mask R-CNN of the MABN authors, maskrcnn-benchmark's, where it differs from MMDetection 3's.
_base_ = ['./mask-rcnn_r50_fpn_legacy.py', './mabn_backbone.py']
model = dict(
    data_preprocessor=_base_.mabn_images,
    backbone=_base_.mabn_backbone,
    neck=dict(init_cfg=_base_.caffe2_init),
    roi_head=dict(
        bbox_head=dict(
            init_cfg=[
                dict(type='Normal', layer='Conv2d', std=0.01),
                dict(type='Caffe2Xavier', layer='Linear'),
                dict(type='Normal', std=0.01, override=dict(name='fc_cls')),
                dict(type='Normal', std=0.001, override=dict(name='fc_reg')),
            ],
        ),
    ),
    train_cfg=dict(rcnn=dict(assigner=dict(match_low_quality=False))),
)
