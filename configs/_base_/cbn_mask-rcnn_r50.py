# The setting that the CBN paper's Mask R-CNN rows share: the authors' detector (MMDetection 0.6), frozen BN
# in the backbone, no norm elsewhere.
_base_ = ['./models/mask-rcnn_r50_fpn_4conv1fc_legacy.py', './cbn_4xb4-1x_coco_instance.py']
