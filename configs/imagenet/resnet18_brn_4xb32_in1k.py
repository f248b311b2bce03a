# CBN paper, Table 3: BRN, 32 images a GPU.
_base_ = '../_base_/resnet18_4xb32_in1k.py'
model = dict(backbone=dict(norm_cfg=dict(type='BRN')))
