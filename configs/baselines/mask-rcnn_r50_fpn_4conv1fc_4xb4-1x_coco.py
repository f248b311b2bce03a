# CBN authors' repository: frozen BN in the backbone, no norm in FPN, box head and mask head.
_base_ = '../_base_/cbn_mask-rcnn_r50.py'
