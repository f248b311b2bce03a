# The setting that the MABN paper's RetinaNet rows share: the authors' detector (maskrcnn-benchmark), 8 GPUs
# x 2 images, from scratch. The learning rate is that code's, 0.005 for 8 images.
_base_ = [
    './models/retinanet_r50_fpn_mabn.py',
    './datasets/coco_detection.py',
    './schedules/mabn_180k.py',
    './runtime_by_iteration.py',
]
optim_wrapper = dict(optimizer=dict(lr=0.01))
