# MABN paper, Table 6: fine-tuned from ImageNet, MABN in backbone, FPN, box head and mask head. The weights
# are the authors' R50-wc.pth, converted (see configs/released).
_base_ = '../_base_/mabn_mask-rcnn_r50-scratch_4conv1fc.py'
mabn = dict(norm_cfg=dict(type='MABN', buffer_size=32), conv_cfg=dict(type='CenConv2d'))
weights = dict(_delete_=True, type='Pretrained', checkpoint='checkpoints/R50-wc_mmdet3.pth')
model = dict(
    backbone=dict(init_cfg=weights, **mabn),
    neck=mabn,
    roi_head=dict(bbox_head=mabn, mask_head=mabn),
)
