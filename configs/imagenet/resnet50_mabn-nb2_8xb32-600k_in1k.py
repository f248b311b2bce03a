# MABN paper, Tables 1, 2 and 4: MABN, statistics of 2 images each, averaged over 16 groups.
_base_ = '../_base_/resnet50_8xb32-600k_in1k.py'
model = dict(
    backbone=dict(
        norm_cfg=dict(type='GhostMABN', norm_batch_size=2, buffer_size=16), conv_cfg=dict(type='CenConv2d')
    ),
)
