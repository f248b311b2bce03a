# MMDetection's Mask R-CNN with the 4conv1fc box head of both papers.
_base_ = 'mmdet::_base_/models/mask-rcnn_r50_fpn.py'
model = dict(roi_head=dict(bbox_head=dict(type='Shared4Conv1FCBBoxHead', conv_out_channels=256)))
