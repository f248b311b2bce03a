# CBN paper, Table 3: BN, 2 images a GPU.
_base_ = '../_base_/resnet18_4xb2_in1k.py'
