# ImageNet (ILSVRC 2012) in data/imagenet, or in the folder that the environment variable IMAGENET_ROOT names.
_base_ = 'mmpretrain::_base_/datasets/imagenet_bs32.py'
data_root = '{{$IMAGENET_ROOT:data/imagenet}}'
train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
