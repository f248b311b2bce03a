# Cityscapes in data/cityscapes, or in the folder that the environment variable CITYSCAPES_ROOT names.
_base_ = 'mmseg::_base_/datasets/cityscapes_769x769.py'
data_root = '{{$CITYSCAPES_ROOT:data/cityscapes}}'
train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
