"""A data set in the form of Cityscapes from the generated shapes: images of cities, and their label maps."""

import json
from pathlib import Path

import cv2
import numpy as np
from pycocotools.coco import COCO

from mmdet_cbn.data.shapes import generate


def write_streets(folder: Path, train: int, val: int, size: int = 96) -> None:
    """Write shapes as classes 1 to 4 of Cityscapes' 19 training ids, on a background of class 0.

    Args:
        folder: To make.
        train: Number of images to train on.
        val: And to validate on.
        size: Height and width of the images in pixels.
    """
    shapes = folder / 'shapes'
    generate(shapes, train=train, val=val, size=size)
    for split in ('train', 'val'):
        coco = COCO()
        coco.dataset = json.loads((shapes / f'annotations/instances_{split}2017.json').read_text())
        coco.createIndex()
        places = [folder / kind / split / 'shapes' for kind in ('leftImg8bit', 'gtFine')]
        for place in places:
            place.mkdir(parents=True)
        for number, image in coco.imgs.items():
            labels = np.zeros((size, size), np.uint8)
            for annotation in coco.imgToAnns[number]:
                labels[coco.annToMask(annotation) > 0] = annotation['category_id']
            pixels = cv2.imread(str(shapes / f'{split}2017' / image['file_name']))
            cv2.imwrite(str(places[0] / f'{number}_leftImg8bit.png'), pixels)
            cv2.imwrite(str(places[1] / f'{number}_gtFine_labelTrainIds.png'), labels)


def options() -> list[str]:
    """Return ``--cfg-options`` that fit a row of configs/cityscapes to these images, and make it narrow."""
    return [
        'model.backbone.init_cfg=None',
        'model.backbone.base_channels=8',
        'model.backbone.stem_channels=8',
        'model.decode_head.in_channels=256',
        'model.decode_head.channels=16',
        'model.auxiliary_head.in_channels=128',
        'model.auxiliary_head.channels=16',
        'model.data_preprocessor.size=(64,64)',
        'model.test_cfg.crop_size=(64,64)',
        'model.test_cfg.stride=(48,48)',
        'train_dataloader.dataset.pipeline.2.scale=(96,96)',
        'train_dataloader.dataset.pipeline.3.crop_size=(64,64)',
        *(f'{split}_dataloader.dataset.pipeline.1.scale=(96,96)' for split in ('val', 'test')),
        *(f'{split}_dataloader.num_workers=0' for split in ('train', 'val', 'test')),
        *(f'{split}_dataloader.persistent_workers=False' for split in ('train', 'val', 'test')),
        'default_hooks.logger.interval=1',
    ]
