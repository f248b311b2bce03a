# The CBN paper's setting: frozen BN in the backbone, MABN in FPN, box head and mask head.
_base_ = '../_base_/cbn_mask-rcnn_r50.py'
mabn = dict(norm_cfg=dict(type='MABN', buffer_size=16), conv_cfg=dict(type='CenConv2d'))
model = dict(neck=mabn, roi_head=dict(bbox_head=mabn, mask_head=mabn))
