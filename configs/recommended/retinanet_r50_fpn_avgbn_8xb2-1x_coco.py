# Frozen BN in the backbone, AvgBN in FPN and head, each level of which has layers of its own behind
# convolutions that all share: averages over levels fit none of them. 8 GPUs x 2 images.
_base_ = './retinanet_r50_fpn_gn_8xb2-1x_coco.py'
norm_cfg = dict(_delete_=True, type='AvgBN')
model = dict(
    neck=dict(norm_cfg=norm_cfg),
    bbox_head=dict(type='RetinaSepBNHead', num_ins=5, norm_cfg=norm_cfg),
)
custom_hooks = [dict(type='CrossIterationHook', window_size='auto')]
