# Frozen BN in the backbone, GN in FPN and in the head, which all levels share; 8 GPUs x 2 images.
_base_ = [
    'mmdet::_base_/models/retinanet_r50_fpn.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/any_batch_1x.py',
    '../_base_/default_runtime.py',
]
norm_cfg = dict(type='GN', num_groups=32)
model = dict(neck=dict(norm_cfg=norm_cfg), bbox_head=dict(norm_cfg=norm_cfg))
optim_wrapper = dict(optimizer=dict(lr=0.01))
