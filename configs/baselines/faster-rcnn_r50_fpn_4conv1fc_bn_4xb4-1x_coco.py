# CBN paper, Table 4: frozen BN in the backbone, BN in FPN and box head.
_base_ = '../_base_/cbn_faster-rcnn_r50.py'
norm_cfg = dict(type='BN')
model = dict(neck=dict(norm_cfg=norm_cfg), roi_head=dict(bbox_head=dict(norm_cfg=norm_cfg)))
