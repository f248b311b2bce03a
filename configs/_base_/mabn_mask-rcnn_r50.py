# The setting that the MABN paper's fine-tuned Mask R-CNN rows share: 8 GPUs x 2 images, 24 epochs, an
# ImageNet backbone of which nothing is frozen.
_base_ = [
    './models/mask-rcnn_r50_fpn_4conv1fc.py',
    './datasets/coco_instance.py',
    'mmdet::_base_/schedules/schedule_2x.py',
    './default_runtime.py',
]
model = dict(backbone=dict(frozen_stages=-1, norm_eval=False))
