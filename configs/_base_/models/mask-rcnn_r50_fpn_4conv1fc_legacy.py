# Mask R-CNN as MMDetection 0.6 tested it: pixels are areas, so that a box is x2 - x1 + 1 wide.
_base_ = './mask-rcnn_r50_fpn_4conv1fc.py'

roi_layer = dict(aligned=False, sampling_ratio=2)
model = dict(
    backbone=dict(init_cfg=None),  # the checkpoint brings the whole model
    rpn_head=dict(
        anchor_generator=dict(type='LegacyAnchorGenerator', center_offset=0.5),
        bbox_coder=dict(type='LegacyDeltaXYWHBBoxCoder'),
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(roi_layer=roi_layer),
        bbox_head=dict(bbox_coder=dict(type='LegacyDeltaXYWHBBoxCoder')),
        mask_roi_extractor=dict(roi_layer=roi_layer),
    ),
    test_cfg=dict(
        rpn=dict(nms_pre=2000, max_per_img=2000, nms=dict(offset=1)),
        rcnn=dict(nms=dict(offset=1)),
    ),
)
