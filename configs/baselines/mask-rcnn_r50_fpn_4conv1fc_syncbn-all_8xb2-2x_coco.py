# MABN paper, Table 6: fine-tuned from ImageNet, SyncBN in backbone, FPN, box head and mask head. The authors'
# weights (R-50-2.pkl) are not known to us; torchvision's want strides in the 3x3 and their own normalization.
_base_ = '../_base_/mabn_mask-rcnn_r50-scratch_4conv1fc.py'
norm_cfg = dict(type='SyncBN')
model = dict(
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True),
    backbone=dict(
        style='pytorch',
        norm_cfg=norm_cfg,
        init_cfg=dict(_delete_=True, type='Pretrained', checkpoint='torchvision://resnet50'),
    ),
    neck=dict(norm_cfg=norm_cfg),
    roi_head=dict(bbox_head=dict(norm_cfg=norm_cfg), mask_head=dict(norm_cfg=norm_cfg)),
)
