# The CBN authors' schedule: 4 GPUs x 4 images, 12 epochs. The paper divides the learning rate by 10 at the
# 9th and 11th epoch; the authors' code, which this follows, after 8 and 11, so before the 9th and the 12th.
# The paper's 0.02 N / 16, N images a GPU, would be 0.005; their code has 0.02, as here.
_base_ = 'mmdet::_base_/schedules/schedule_1x.py'
param_scheduler = [
    # MMEngine rises over end - 1 iterations: the whole learning rate is reached at 500, as in their code.
    dict(type='LinearLR', start_factor=1 / 3, by_epoch=False, begin=0, end=501),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=12, milestones=[8, 11], gamma=0.1),
]
optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))
