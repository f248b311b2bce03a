# CBN paper, Table 3: CBN, 2 images a GPU, window 8.
_base_ = '../_base_/resnet18_4xb2_in1k.py'
model = dict(backbone=dict(norm_cfg=dict(type='CBN')))
custom_hooks = [dict(type='CrossIterationHook', burn_in_epochs=25, window_size='auto')]
