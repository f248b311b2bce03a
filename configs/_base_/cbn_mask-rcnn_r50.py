# The setting that the CBN paper's Mask R-CNN rows share: 4 GPUs x 4 images, frozen BN in the backbone,
# no norm elsewhere.
_base_ = [
    './models/mask-rcnn_r50_fpn_4conv1fc.py',
    './datasets/coco_instance.py',
    './schedules/cbn_1x.py',
    './default_runtime.py',
]
train_dataloader = dict(batch_size=4)
