# CBN in all four parts.
_base_ = '../_base_/quickstart_mask-rcnn_r18.py'
norm_cfg = dict(type='CBN', window_size=4)
model = dict(
    backbone=dict(norm_cfg=norm_cfg),
    neck=dict(norm_cfg=norm_cfg),
    roi_head=dict(bbox_head=dict(norm_cfg=norm_cfg), mask_head=dict(norm_cfg=norm_cfg)),
)
custom_hooks = [dict(type='CrossIterationHook', burn_in_epochs=1)]
