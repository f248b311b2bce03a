# Faster R-CNN of the CBN authors: their Mask R-CNN without masks.
_base_ = './mask-rcnn_r50_fpn_4conv1fc_legacy.py'

model = dict(
    type='FasterRCNN',
    data_preprocessor=dict(pad_mask=False),
    roi_head=dict(mask_roi_extractor=None, mask_head=None),
)
