# MABN paper, Table 6: fine-tuned from ImageNet, SyncBN in backbone, FPN, box head and mask head.
_base_ = '../_base_/mabn_mask-rcnn_r50.py'
norm_cfg = dict(type='SyncBN')
model = dict(
    backbone=dict(norm_cfg=norm_cfg),
    neck=dict(norm_cfg=norm_cfg),
    roi_head=dict(bbox_head=dict(norm_cfg=norm_cfg), mask_head=dict(norm_cfg=norm_cfg)),
)
