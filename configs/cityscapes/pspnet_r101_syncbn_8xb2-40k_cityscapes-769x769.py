# MABN paper, Table 8: SyncBN.
_base_ = '../_base_/pspnet_r101_8xb2-40k_cityscapes.py'
norm_cfg = dict(type='SyncBN')
model = dict(
    backbone=dict(norm_cfg=norm_cfg),
    decode_head=dict(norm_cfg=norm_cfg),
    auxiliary_head=dict(norm_cfg=norm_cfg),
)
