# The CBN paper's setting: frozen BN in the backbone, MABN in FPN and box head.
_base_ = '../_base_/cbn_faster-rcnn_r50.py'
mabn = dict(norm_cfg=dict(type='MABN', buffer_size=16), conv_cfg=dict(type='CenConv2d'))
model = dict(neck=mabn, roi_head=dict(bbox_head=mabn))
