# The setting that the CBN paper's ResNet-18 rows share: 4 GPUs x 32 images, 100 epochs; BN.
_base_ = [
    'mmpretrain::_base_/models/resnet18.py',
    './datasets/imagenet.py',
    './schedules/imagenet_cosine.py',
    './runtime_mmpretrain.py',
]
model = dict(backbone=dict(zero_init_residual=False))  # section 3.1: gamma begins at 1
