# The same with 4 images a GPU: the learning rate is 0.1 N / 32.
_base_ = './resnet18_4xb32_in1k.py'
train_dataloader = dict(batch_size=4)
optim_wrapper = dict(optimizer=dict(lr=0.0125))
auto_scale_lr = dict(base_batch_size=4 * 4)
