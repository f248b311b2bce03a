# CBN paper, Table 4: frozen BN in the backbone, no norm in FPN and box head.
_base_ = '../_base_/cbn_faster-rcnn_r50.py'
