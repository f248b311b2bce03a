# CBN paper, Figure 3(b): as CBN, without compensation for the change of the weights.
_base_ = '../_base_/cbn_faster-rcnn_r50.py'
norm_cfg = dict(type='NaiveCBN', window_size=4)
model = dict(neck=dict(norm_cfg=norm_cfg), roi_head=dict(bbox_head=dict(norm_cfg=norm_cfg)))
custom_hooks = [dict(type='CrossIterationHook', burn_in_epochs=3)]
