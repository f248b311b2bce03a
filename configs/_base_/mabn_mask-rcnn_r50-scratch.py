# The setting that the MABN paper's Mask R-CNN rows share: the authors' detector (maskrcnn-benchmark), 8 GPUs
# x 2 images, from scratch, norm in the backbone only.
_base_ = [
    './models/mask-rcnn_r50_fpn_mabn.py',
    './datasets/coco_instance.py',
    './schedules/mabn_180k.py',
    './runtime_by_iteration.py',
]
