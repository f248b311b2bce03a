# Mask R-CNN as the detectors of both papers train and test it (MMDetection 0.6, maskrcnn-benchmark), where
# MMDetection 3 has changed. Pixels are areas: a box is x2 - x1 + 1 wide in anchors, box coder and NMS.
_base_ = 'mmdet::_base_/models/mask-rcnn_r50_fpn.py'

roi_layer = dict(aligned=False, sampling_ratio=2)  # no half-pixel shift, 2 x 2 samples in each bin
nms = dict(offset=1)
model = dict(
    rpn_head=dict(
        anchor_generator=dict(type='LegacyAnchorGenerator', center_offset=0.5),
        bbox_coder=dict(type='WholePixelBoxCoder'),
        loss_bbox=dict(type='SmoothL1Loss', beta=1 / 9),
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(roi_layer=roi_layer),
        bbox_head=dict(
            bbox_coder=dict(type='WholePixelBoxCoder'),
            loss_bbox=dict(type='SmoothL1Loss', beta=1.0),
        ),
        mask_roi_extractor=dict(roi_layer=roi_layer),
    ),
    train_cfg=dict(
        rpn=dict(allowed_border=0),  # anchors that cross the border of the image do not train
        rpn_proposal=dict(nms=nms),
    ),
    test_cfg=dict(rpn=dict(nms=nms), rcnn=dict(nms=nms)),
)
