# CBN paper, Table 3, which has no number for it: BN, 1 image a GPU.
_base_ = '../_base_/resnet18_4xb1_in1k.py'
