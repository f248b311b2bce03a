# In no paper: CBN in the setting of the MABN paper.
_base_ = '../_base_/pspnet_r101_8xb2-40k_cityscapes.py'
norm_cfg = dict(type='CBN')
model = dict(
    backbone=dict(norm_cfg=norm_cfg),
    decode_head=dict(norm_cfg=norm_cfg),
    auxiliary_head=dict(norm_cfg=norm_cfg),
)
custom_hooks = [dict(type='CrossIterationHook', burn_in_epochs=3, window_size='auto')]
