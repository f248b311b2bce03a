# MABN paper, Table 3: from scratch, BRN in the backbone.
_base_ = '../_base_/mabn_mask-rcnn_r50-scratch.py'
model = dict(backbone=dict(norm_cfg=dict(type='BRN', momentum=0.02)))  # the paper's alpha = 0.98
