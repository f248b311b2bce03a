# 8 GPUs x 1 image.
_base_ = './faster-rcnn_r50_fpn_4conv1fc_avgbn_8xb2-1x_coco.py'
train_dataloader = dict(batch_size=1)
