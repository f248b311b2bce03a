# MABN paper, Table 5: from scratch, BN in backbone, FPN, box head and mask head.
_base_ = '../_base_/mabn_mask-rcnn_r50-scratch_4conv1fc.py'
norm_cfg = dict(type='BN')
model = dict(
    backbone=dict(norm_cfg=norm_cfg),
    neck=dict(norm_cfg=norm_cfg),
    roi_head=dict(bbox_head=dict(norm_cfg=norm_cfg), mask_head=dict(norm_cfg=norm_cfg)),
)
