# CBN paper, Tables 2 and 3: BN, 32 images a GPU.
_base_ = '../_base_/resnet18_4xb32_in1k.py'
