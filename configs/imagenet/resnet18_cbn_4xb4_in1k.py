# CBN paper, Table 3: CBN, 4 images a GPU, window 4.
_base_ = '../_base_/resnet18_4xb4_in1k.py'
model = dict(backbone=dict(norm_cfg=dict(type='CBN')))
custom_hooks = [dict(type='CrossIterationHook', burn_in_epochs=25, window_size='auto')]
