# MABN paper, Table 7: RetinaNet from scratch, MABN in backbone, FPN and head.
_base_ = '../_base_/mabn_retinanet_r50-scratch.py'
mabn = dict(norm_cfg=dict(type='MABN', buffer_size=16), conv_cfg=dict(type='CenConv2d'))
model = dict(backbone=mabn, neck=mabn, bbox_head=mabn)
