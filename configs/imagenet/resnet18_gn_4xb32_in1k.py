# CBN paper, Tables 2 and 3: GN, 32 images a GPU.
_base_ = '../_base_/resnet18_4xb32_in1k.py'
model = dict(backbone=dict(norm_cfg=dict(type='GN', num_groups=32)))
