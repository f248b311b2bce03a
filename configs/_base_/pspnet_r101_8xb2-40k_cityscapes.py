# The setting that the MABN paper's rows share: PSPNet with ResNet-101, 8 GPUs x 2 images; BN everywhere.
_base_ = [
    'mmseg::_base_/models/pspnet_r50-d8.py',
    './datasets/cityscapes.py',
    './schedules/cityscapes_40k.py',
    './runtime_mmseg.py',
]
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    pretrained=None,
    data_preprocessor=dict(size=(769, 769)),
    backbone=dict(
        type='ResNet',  # with one 7x7 convolution at its beginning, as the authors' ImageNet models have it
        depth=101,
        norm_cfg=norm_cfg,
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet101'),
    ),
    decode_head=dict(align_corners=True, norm_cfg=norm_cfg),
    auxiliary_head=dict(align_corners=True, norm_cfg=norm_cfg),
    test_cfg=dict(mode='slide', crop_size=(769, 769), stride=(513, 513)),
)
auto_scale_lr = dict(enable=False, base_batch_size=16)
