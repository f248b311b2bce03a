# CBN paper, Table 3: GN, 1 image a GPU.
_base_ = '../_base_/resnet18_4xb1_in1k.py'
model = dict(backbone=dict(norm_cfg=dict(type='GN', num_groups=32)))
