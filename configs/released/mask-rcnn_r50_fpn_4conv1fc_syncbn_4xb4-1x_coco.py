_base_ = './mask-rcnn_r50_fpn_4conv1fc_4xb4-1x_coco.py'

norm_cfg = dict(type='SyncBN')
model = dict(
    neck=dict(norm_cfg=norm_cfg),
    roi_head=dict(bbox_head=dict(norm_cfg=norm_cfg), mask_head=dict(norm_cfg=norm_cfg)),
)
