# CBN paper, Table 4: frozen BN in the backbone, GN in FPN and box head.
_base_ = '../_base_/cbn_faster-rcnn_r50.py'
norm_cfg = dict(type='GN', num_groups=32)
model = dict(neck=dict(norm_cfg=norm_cfg), roi_head=dict(bbox_head=dict(norm_cfg=norm_cfg)))
