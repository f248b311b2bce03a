# CBN paper, Table 4: BN everywhere, training in all layers but stem and first stage.
_base_ = './faster-rcnn_r50_fpn_4conv1fc_bn_4xb4-1x_coco.py'
model = dict(backbone=dict(norm_eval=False))
