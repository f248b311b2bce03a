# CBN paper, Table 3: BRN, 16 images a GPU.
_base_ = '../_base_/resnet18_4xb16_in1k.py'
model = dict(backbone=dict(norm_cfg=dict(type='BRN')))
