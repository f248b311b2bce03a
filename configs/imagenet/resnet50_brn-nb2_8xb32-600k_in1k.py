# MABN paper, Tables 1 and 2: BRN, statistics of 2 images each.
_base_ = '../_base_/resnet50_8xb32-600k_in1k.py'
model = dict(
    # BRN's warm-up of 5,000 iterations, of which each has 16 groups.
    backbone=dict(norm_cfg=dict(type='GhostBRN', norm_batch_size=2, warmup_iters=5000 * 16)),
)
