"""A data set in the form of ImageNet from scikit-learn's digits: train/ and val/, a folder for each class."""

from pathlib import Path

import cv2
import numpy as np
from sklearn.datasets import load_digits

CLASSES = tuple(f'digit{number}' for number in range(10))


def write_digits(folder: Path, train: int, val: int) -> None:
    """Write colour images of 48 x 48 pixels.

    Args:
        folder: To make.
        train: Images of each class to train on.
        val: And to validate on, others.
    """
    digits = load_digits()
    for number, name in enumerate(CLASSES):
        images = digits.images[digits.target == number]
        for split, chosen in (('train', images[:train]), ('val', images[train : train + val])):
            place = folder / split / name
            place.mkdir(parents=True)
            for index, image in enumerate(chosen):
                pixels = np.repeat((image * 15).astype(np.uint8)[..., None], 3, axis=2)
                enlarged = cv2.resize(pixels, (48, 48), interpolation=cv2.INTER_LINEAR)
                cv2.imwrite(str(place / f'{index}.png'), enlarged)


def options(depth: int = 18, channels: int = 32) -> list[str]:
    """Return ``--cfg-options`` that fit a row of configs/imagenet to these images, and make it small.

    Args:
        depth: Of the row's ResNet.
        channels: Of its first layer; GN has 32 groups.
    """
    classes = 'dataset.metainfo.classes=' + ','.join(CLASSES)
    return [
        f'model.backbone.base_channels={channels}',
        f'model.backbone.stem_channels={channels}',
        f'model.head.in_channels={channels * (8 if depth == 18 else 32)}',
        f'model.head.num_classes={len(CLASSES)}',
        'data_preprocessor.num_classes=10',
        *(f'{split}_dataloader.{classes}' for split in ('train', 'val', 'test')),
        *(f'{split}_dataloader.num_workers=0' for split in ('train', 'val', 'test')),
        'train_dataloader.dataset.pipeline.1.scale=40',
        *(f'{split}_dataloader.dataset.pipeline.1.scale=44' for split in ('val', 'test')),
        *(f'{split}_dataloader.dataset.pipeline.2.crop_size=40' for split in ('val', 'test')),
        'default_hooks.logger.interval=1',
    ]
