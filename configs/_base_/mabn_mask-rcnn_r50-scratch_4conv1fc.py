# The rows that carry a norm in the heads have convolutions in the box head, too.
_base_ = './mabn_mask-rcnn_r50-scratch.py'
model = dict(roi_head=dict(bbox_head=dict(type='Shared4Conv1FCBBoxHead', conv_out_channels=256)))
