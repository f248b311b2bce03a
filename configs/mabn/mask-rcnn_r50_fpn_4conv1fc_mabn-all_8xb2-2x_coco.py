# MABN paper, Table 6: fine-tuned from ImageNet, MABN in backbone, FPN, box head and mask head. The weights
# are the authors' R50-wc.pth, converted (see configs/released), which wants BGR images without division by
# a standard deviation.
_base_ = '../_base_/mabn_mask-rcnn_r50.py'
mabn = dict(norm_cfg=dict(type='MABN', buffer_size=32), conv_cfg=dict(type='CenConv2d'))
model = dict(
    data_preprocessor=dict(mean=[102.9801, 115.9465, 122.7717], std=[1.0, 1.0, 1.0], bgr_to_rgb=False),
    backbone=dict(init_cfg=dict(checkpoint='checkpoints/R50-wc_mmdet3.pth'), **mabn),
    neck=mabn,
    roi_head=dict(bbox_head=mabn, mask_head=mabn),
)
