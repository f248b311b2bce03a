# ImageNet as the MABN authors' code reads it (cls/utils.py): BGR from 0 to 255 with neither mean nor standard
# deviation, square crops, light as in AlexNet.
_base_ = './imagenet.py'
data_preprocessor = dict(mean=None, std=None, to_rgb=False)
mabn_train_pipeline = [
    # Lighting goes beyond 0 and 255, where whole numbers of 8 bits would begin anew.
    dict(type='LoadImageFromFile', to_float32=True),
    dict(type='RandomResizedCrop', scale=224, aspect_ratio_range=(1.0, 1.0)),
    dict(
        type='Lighting',
        eigval=[55.4625, 4.7940, 1.1475],
        eigvec=[[-0.5836, -0.6948, 0.4203], [-0.5808, -0.0045, -0.8140], [-0.5675, 0.7192, 0.4009]],
        alphastd=0.1,
    ),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=mabn_train_pipeline))
