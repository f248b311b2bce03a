# MABN paper, Table 7: RetinaNet from scratch, SyncBN in backbone, FPN and head.
_base_ = '../_base_/mabn_retinanet_r50-scratch.py'
norm_cfg = dict(type='SyncBN')
model = dict(
    backbone=dict(norm_cfg=norm_cfg),
    neck=dict(norm_cfg=norm_cfg),
    bbox_head=dict(norm_cfg=norm_cfg),
)
