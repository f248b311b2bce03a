# The same data and schedule with MMDetection 3's own Faster R-CNN: L1 losses, aligned RoIs, 1,000 proposals.
_base_ = ['./models/faster-rcnn_r50_fpn_4conv1fc.py', './cbn_4xb4-1x_coco_detection.py']
