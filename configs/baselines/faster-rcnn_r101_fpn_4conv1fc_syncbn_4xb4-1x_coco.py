# CBN paper, Table 5: Faster R-CNN R-101 with SyncBN.
_base_ = './faster-rcnn_r50_fpn_4conv1fc_syncbn_4xb4-1x_coco.py'
model = dict(backbone=dict(depth=101, init_cfg=dict(checkpoint='torchvision://resnet101')))
