# CBN paper, Tables 2 and 3: CBN, 32 images a GPU, window 1 (which is BN).
_base_ = '../_base_/resnet18_4xb32_in1k.py'
model = dict(backbone=dict(norm_cfg=dict(type='CBN')))
custom_hooks = [dict(type='CrossIterationHook', burn_in_epochs=25, window_size='auto')]
