_base_ = '../_base_/cbn_faster-rcnn_r50.py'

# In MMDetection 0.6 the last pixel of a box was inside it. MMDetection's coder for such checkpoints gives
# the boxes the width that its evaluation expects.
bbox_coder = dict(type='LegacyDeltaXYWHBBoxCoder')
model = dict(
    backbone=dict(init_cfg=None),  # the checkpoint brings the whole model
    rpn_head=dict(bbox_coder=bbox_coder),
    roi_head=dict(bbox_head=dict(bbox_coder=bbox_coder)),
)
