# The setting that the MABN paper's ResNet-50 rows share: 8 GPUs x 32 images, 600,000 iterations, the authors'
# images, smoothed labels and initial weights (folder cls of their code); BN of 32 images.
_base_ = [
    'mmpretrain::_base_/models/resnet50.py',
    './datasets/imagenet_mabn.py',
    './schedules/imagenet_600k.py',
    './runtime_mmpretrain.py',
]
model = dict(
    backbone=dict(zero_init_residual=False),
    head=dict(
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1),
        init_cfg=None,  # PyTorch's
    ),
)
default_hooks = dict(logger=dict(log_metric_by_epoch=False), checkpoint=dict(by_epoch=False, interval=10_000))
log_processor = dict(by_epoch=False)
