# MABN paper, Table 5: from scratch, BRN in backbone, FPN, box head and mask head.
_base_ = '../_base_/mabn_mask-rcnn_r50-scratch_4conv1fc.py'
norm_cfg = dict(type='BRN', momentum=0.02)  # the paper's alpha = 0.98
model = dict(
    backbone=dict(norm_cfg=norm_cfg),
    neck=dict(norm_cfg=norm_cfg),
    roi_head=dict(bbox_head=dict(norm_cfg=norm_cfg), mask_head=dict(norm_cfg=norm_cfg)),
)
