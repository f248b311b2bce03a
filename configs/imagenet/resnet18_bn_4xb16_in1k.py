# CBN paper, Table 3: BN, 16 images a GPU.
_base_ = '../_base_/resnet18_4xb16_in1k.py'
