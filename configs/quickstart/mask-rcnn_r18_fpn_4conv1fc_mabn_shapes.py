# MABN behind centred convolutions in all four parts.
_base_ = '../_base_/quickstart_mask-rcnn_r18.py'
norm = dict(norm_cfg=dict(type='MABN', buffer_size=16), conv_cfg=dict(type='CenConv2d'))
model = dict(backbone=norm, neck=norm, roi_head=dict(bbox_head=norm, mask_head=norm))
