# CBN paper, Table 2: LN, which is GN with one group.
_base_ = '../_base_/resnet18_4xb32_in1k.py'
model = dict(backbone=dict(norm_cfg=dict(type='GN', num_groups=1)))
