# MABN paper, Tables 1 and 2: BN, statistics of the 32 images of a GPU.
_base_ = '../_base_/resnet50_8xb32-600k_in1k.py'
