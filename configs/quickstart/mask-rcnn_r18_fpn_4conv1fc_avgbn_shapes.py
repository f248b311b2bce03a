# AvgBN in all four parts, on the generated shapes: what tools/quickstart.sh trains.
_base_ = '../_base_/quickstart_mask-rcnn_r18.py'
norm_cfg = dict(type='AvgBN')
model = dict(
    backbone=dict(norm_cfg=norm_cfg),
    neck=dict(norm_cfg=norm_cfg),
    roi_head=dict(bbox_head=dict(norm_cfg=norm_cfg), mask_head=dict(norm_cfg=norm_cfg)),
)
