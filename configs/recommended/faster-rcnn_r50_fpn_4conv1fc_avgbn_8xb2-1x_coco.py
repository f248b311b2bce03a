# Frozen BN in the backbone, AvgBN in FPN and box head; 8 GPUs x 2 images.
_base_ = [
    '../_base_/models/faster-rcnn_r50_fpn_4conv1fc.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/any_batch_1x.py',
    '../_base_/default_runtime.py',
]
norm_cfg = dict(type='AvgBN')
model = dict(neck=dict(norm_cfg=norm_cfg), roi_head=dict(bbox_head=dict(norm_cfg=norm_cfg)))
custom_hooks = [dict(type='CrossIterationHook', window_size='auto')]
