# MABN paper, Table 8: BN.
_base_ = '../_base_/pspnet_r101_8xb2-40k_cityscapes.py'
