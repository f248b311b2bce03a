# CBN paper, Table 3: BN, 8 images a GPU.
_base_ = '../_base_/resnet18_4xb8_in1k.py'
