# CBN paper, Table 4: GN everywhere, training in all layers but stem and first stage. The backbone was
# pre-trained with GN by Detectron, on BGR images without division by a standard deviation.
_base_ = './faster-rcnn_r50_fpn_4conv1fc_gn_4xb4-1x_coco.py'
model = dict(
    data_preprocessor=dict(mean=[103.530, 116.280, 123.675], std=[1.0, 1.0, 1.0], bgr_to_rgb=False),
    backbone=dict(
        norm_cfg=dict(type='GN', num_groups=32),
        norm_eval=False,
        init_cfg=dict(checkpoint='open-mmlab://detectron/resnet50_gn'),
    ),
)
