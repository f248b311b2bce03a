# The MABN paper, section B.4: poly after a linear warm-up of 3 epochs (558 iterations, so of 16 images).
# Length, learning rate and weight decay, which it does not state, are MMSegmentation's.
_base_ = 'mmseg::_base_/schedules/schedule_40k.py'
warmup = 558
param_scheduler = [
    # MMEngine rises over end - 1 iterations.
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=warmup + 1),
    dict(type='PolyLR', eta_min=1e-4, power=0.9, by_epoch=False, begin=warmup, end=40_000),
]
