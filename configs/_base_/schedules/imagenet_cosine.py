# The CBN paper's schedule, section 4.1: 100 epochs, cosine decay, learning rate 0.1 for 32 images a GPU.
# Weight decay 1e-4 on everything, gamma and beta included. Momentum 0.9 and no warm-up are MMPretrain's.
_base_ = 'mmpretrain::_base_/schedules/imagenet_bs256_coslr.py'
auto_scale_lr = dict(base_batch_size=4 * 32)
