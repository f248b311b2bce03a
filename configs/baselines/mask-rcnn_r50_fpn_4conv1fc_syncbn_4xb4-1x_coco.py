# CBN paper, Table 5: frozen BN in the backbone, SyncBN in FPN, box head and mask head.
_base_ = '../_base_/cbn_mask-rcnn_r50.py'
norm_cfg = dict(type='SyncBN')
model = dict(
    neck=dict(norm_cfg=norm_cfg),
    roi_head=dict(bbox_head=dict(norm_cfg=norm_cfg), mask_head=dict(norm_cfg=norm_cfg)),
)
