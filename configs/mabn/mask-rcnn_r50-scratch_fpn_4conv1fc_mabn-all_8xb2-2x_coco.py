# MABN paper, Table 5: from scratch, MABN in backbone, FPN, box head and mask head; the heads use batch
# statistics during the first 10,000 iterations.
_base_ = '../_base_/mabn_mask-rcnn_r50-scratch_4conv1fc.py'
conv_cfg = dict(type='CenConv2d')
mabn = dict(norm_cfg=dict(type='MABN', buffer_size=32), conv_cfg=conv_cfg)
mabn_head = dict(norm_cfg=dict(type='MABN', buffer_size=32, warmup_iters=10000), conv_cfg=conv_cfg)
model = dict(backbone=mabn, neck=mabn, roi_head=dict(bbox_head=mabn_head, mask_head=mabn_head))
