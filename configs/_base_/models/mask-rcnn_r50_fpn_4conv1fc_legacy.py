# Mask R-CNN of the CBN authors: MMDetection 0.6 with the 4conv1fc box head. It has one number of proposals,
# the 2,000 of its test settings, and an object has first claim to its best RoI, if they overlap by half.
_base_ = './mask-rcnn_r50_fpn_legacy.py'
proposals = dict(nms_pre=2000, max_per_img=2000)
model = dict(
    roi_head=dict(bbox_head=dict(type='Shared4Conv1FCBBoxHead', conv_out_channels=256)),
    train_cfg=dict(rpn_proposal=proposals, rcnn=dict(assigner=dict(match_low_quality=True))),
    test_cfg=dict(rpn=proposals),
)
