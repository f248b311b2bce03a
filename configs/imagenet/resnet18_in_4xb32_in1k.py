# CBN paper, Table 2: IN.
_base_ = '../_base_/resnet18_4xb32_in1k.py'
model = dict(backbone=dict(norm_cfg=dict(type='IN', affine=True)))
