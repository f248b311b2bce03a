# CBN paper, Table 3: BN, 4 images a GPU.
_base_ = '../_base_/resnet18_4xb4_in1k.py'
