# SyncBN in all four parts: on GPUs, or in one process on the CPU (torch synchronizes it on GPUs only).
_base_ = '../_base_/quickstart_mask-rcnn_r18.py'
norm_cfg = dict(type='SyncBN')
model = dict(
    backbone=dict(norm_cfg=norm_cfg),
    neck=dict(norm_cfg=norm_cfg),
    roi_head=dict(bbox_head=dict(norm_cfg=norm_cfg), mask_head=dict(norm_cfg=norm_cfg)),
)
