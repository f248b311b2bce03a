# MABN paper, Table 3: from scratch, MABN in the backbone.
_base_ = '../_base_/mabn_mask-rcnn_r50-scratch.py'
model = dict(
    backbone=dict(norm_cfg=dict(type='MABN', buffer_size=16), conv_cfg=dict(type='CenConv2d')),
)
