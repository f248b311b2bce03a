# MABN paper, Table 8: MABN, batch statistics for 3 epochs, from weights that were trained centred.
_base_ = '../_base_/pspnet_r101_8xb2-40k_cityscapes.py'
norm_cfg = dict(type='MABN', buffer_size=16, warmup_iters=558)
conv_cfg = dict(type='CenConv2d')
model = dict(
    backbone=dict(
        norm_cfg=norm_cfg,
        conv_cfg=conv_cfg,
        init_cfg=dict(checkpoint='checkpoints/resnet101-wc_in1k.pth', prefix='backbone.'),
    ),
    decode_head=dict(norm_cfg=norm_cfg, conv_cfg=conv_cfg),
    auxiliary_head=dict(norm_cfg=norm_cfg, conv_cfg=conv_cfg),
)
