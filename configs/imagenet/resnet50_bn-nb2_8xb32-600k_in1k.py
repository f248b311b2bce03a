# MABN paper, Tables 1, 2 and 4: BN, statistics of 2 images each.
_base_ = '../_base_/resnet50_8xb32-600k_in1k.py'
model = dict(backbone=dict(norm_cfg=dict(type='GhostBN', norm_batch_size=2)))
