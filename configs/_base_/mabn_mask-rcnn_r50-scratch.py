# The setting that the MABN paper's Mask R-CNN rows from scratch share: 8 GPUs x 2 images, 24 epochs,
# nothing pre-trained and nothing frozen, norm in the backbone only.
_base_ = [
    'mmdet::_base_/models/mask-rcnn_r50_fpn.py',
    './datasets/coco_instance.py',
    'mmdet::_base_/schedules/schedule_2x.py',
    './default_runtime.py',
]
model = dict(backbone=dict(frozen_stages=-1, norm_eval=False, zero_init_residual=False, init_cfg=None))
