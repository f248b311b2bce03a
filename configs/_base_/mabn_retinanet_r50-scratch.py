# The setting that the MABN paper's RetinaNet rows share: 8 GPUs x 2 images, 24 epochs, nothing pre-trained
# and nothing frozen. The learning rate is RetinaNet's usual one.
_base_ = [
    'mmdet::_base_/models/retinanet_r50_fpn.py',
    './datasets/coco_detection.py',
    'mmdet::_base_/schedules/schedule_2x.py',
    './default_runtime.py',
]
model = dict(backbone=dict(frozen_stages=-1, norm_eval=False, zero_init_residual=False, init_cfg=None))
optim_wrapper = dict(optimizer=dict(lr=0.01))
