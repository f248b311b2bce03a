# The MABN authors' schedule: 8 GPUs x 2 images, 180,000 iterations (maskrcnn-benchmark's 2x, 24.6 epochs).
_base_ = 'mmdet::_base_/schedules/schedule_2x.py'
max_iters = 180_000
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=max_iters, val_interval=10_000)
param_scheduler = [
    # MMEngine rises over end - 1 iterations: the whole learning rate is reached at 500, as in their code.
    dict(type='LinearLR', start_factor=1 / 3, by_epoch=False, begin=0, end=501),
    dict(
        type='MultiStepLR', by_epoch=False, begin=0, end=max_iters, milestones=[120_000, 160_000], gamma=0.1
    ),
]
# Their rule is for every parameter with "bias" in its name, so for beta as well; gamma decays.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(bias=dict(lr_mult=2.0, decay_mult=0.0))))
