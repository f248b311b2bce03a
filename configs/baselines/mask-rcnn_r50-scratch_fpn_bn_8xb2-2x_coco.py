# MABN paper, Table 3: from scratch, BN in the backbone.
_base_ = '../_base_/mabn_mask-rcnn_r50-scratch.py'
