_base_ = [
    '../_base_/models/mask-rcnn_r50_fpn_4conv1fc_legacy.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/cbn_1x.py',
    '../_base_/default_runtime.py',
]
