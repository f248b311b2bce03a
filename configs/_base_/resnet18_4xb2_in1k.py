# The same with 2 images a GPU: the learning rate is 0.1 N / 32.
_base_ = './resnet18_4xb32_in1k.py'
train_dataloader = dict(batch_size=2)
optim_wrapper = dict(optimizer=dict(lr=0.00625))
auto_scale_lr = dict(base_batch_size=4 * 2)
