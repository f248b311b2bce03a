# CBN paper, Table 4: GN everywhere, training in all layers but stem and first stage. The backbone was
# pre-trained with GN by Detectron, on BGR images without division by a standard deviation; the mean is that
# of the authors' config, MMDetection's GN configs have another.
_base_ = './faster-rcnn_r50_fpn_4conv1fc_gn_4xb4-1x_coco.py'
model = dict(
    data_preprocessor=dict(mean=[102.9801, 115.9465, 122.7717], std=[1.0, 1.0, 1.0], bgr_to_rgb=False),
    backbone=dict(
        norm_cfg=dict(type='GN', num_groups=32),
        norm_eval=False,
        init_cfg=dict(checkpoint='open-mmlab://detectron/resnet50_gn'),
    ),
)
