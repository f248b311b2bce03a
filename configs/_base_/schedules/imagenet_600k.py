# The MABN authors' schedule: 600,000 iterations of 8 GPUs x 32 images. The learning rate of 0.1, which the
# paper does not state, is their code's (cls/train.py).
_base_ = 'mmpretrain::_base_/schedules/imagenet_bs256.py'
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=600_000, val_interval=10_000)
param_scheduler = dict(by_epoch=False, milestones=[150_000, 300_000, 450_000])
