# CBN paper, Figure 3(b): the upper bound at k = 2, BN over 4 k = 8 images. The learning rate, 0.02 for 16
# images, follows their number, as in the authors' config of this run.
_base_ = './faster-rcnn_r50_fpn_4conv1fc_syncbn_4xb4-1x_coco.py'
train_dataloader = dict(batch_size=2)
optim_wrapper = dict(optimizer=dict(lr=0.01))
auto_scale_lr = dict(base_batch_size=8)
