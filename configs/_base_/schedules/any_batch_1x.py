# MMDetection's 12 epochs, whose learning rate is for 16 images an iteration and follows their number.
_base_ = 'mmdet::_base_/schedules/schedule_1x.py'
auto_scale_lr = dict(enable=True)
