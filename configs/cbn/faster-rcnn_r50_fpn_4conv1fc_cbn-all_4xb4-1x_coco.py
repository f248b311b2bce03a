# CBN paper, Table 4: CBN everywhere, training in all layers but stem and first stage.
_base_ = './faster-rcnn_r50_fpn_4conv1fc_cbn_4xb4-1x_coco.py'
model = dict(backbone=dict(norm_cfg=dict(type='CBN', window_size=4), norm_eval=False))
