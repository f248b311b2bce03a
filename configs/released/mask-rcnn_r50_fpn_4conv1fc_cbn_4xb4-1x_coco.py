_base_ = './mask-rcnn_r50_fpn_4conv1fc_4xb4-1x_coco.py'

# The authors' layer divides by sqrt(var) + 1e-5, ours by sqrt(var + eps): this eps is the same
# where var vanishes, and within 0.4 % of it wherever var is above 1e-5.
norm_cfg = dict(type='CBN', window_size=4, eps=1e-10)
model = dict(
    neck=dict(norm_cfg=norm_cfg),
    roi_head=dict(bbox_head=dict(norm_cfg=norm_cfg), mask_head=dict(norm_cfg=norm_cfg)),
)
