"""Training on data that are wrong."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.wrong_input import TRAIN, Case, cut, remove, write

pytestmark = pytest.mark.slow

TRAINING = 'shapes/annotations/instances_train2017.json'
IMAGE = 'shapes/train2017/000000000001.jpg'


def annotations(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Change what the annotation file of training holds, in place or by returning something else."""

    def spoil(folder: Path) -> None:
        path = folder / TRAINING
        content = json.loads(path.read_text())
        changed = change(content)
        path.write_text(json.dumps(content if changed is None else changed))

    return spoil


def each(section: str, **values: Any) -> Callable[[Path], None]:
    return annotations(lambda coco: [entry.update(values) for entry in coco[section]] and None)


def first(section: str, **values: Any) -> Callable[[Path], None]:
    return annotations(lambda coco: coco[section][0].update(values))


def without(section: str, key: str) -> Callable[[Path], None]:
    return annotations(lambda coco: coco[section][0].pop(key) and None)


CASES = [
    Case(
        'no-annotation-file',
        ('instances_train2017.json', 'python -m mmdet_cbn.data.shapes'),
        spoil=remove(TRAINING),
    ),
    Case('annotations-are-no-json', ('not a whole JSON file', 'again'), spoil=write(TRAINING, '<html>')),
    Case('annotations-are-cut', ('not a whole JSON file', 'again'), spoil=cut(TRAINING, 0.5)),
    Case(
        'annotations-are-binary',
        ('not a whole JSON file', 'again'),
        spoil=lambda folder: (folder / TRAINING).write_bytes(b'\xff\xd8\xff'),
    ),
    Case('annotations-are-a-list', ('holds a list', 'COCO format'), spoil=write(TRAINING, '[]')),
    *(
        Case(
            f'no-{section}',
            (f"no list '{section}'", 'COCO format'),
            spoil=annotations(lambda coco, s=section: coco.pop(s) and None),
        )
        for section in ('images', 'annotations', 'categories')
    ),
    Case(
        'empty-images',
        ("its list 'images' is empty", 'COCO format'),
        spoil=annotations(lambda coco: coco['images'].clear()),
    ),
    Case('image-without-size', ('images[0] has no width', 'COCO format'), spoil=without('images', 'width')),
    Case(
        'image-size-as-text',
        ('the wrong type', 'widths, heights and areas must be numbers'),
        spoil=each('images', width='64'),
    ),
    Case(
        'annotation-without-box',
        ('annotations[0] has no bbox', 'COCO format'),
        spoil=without('annotations', 'bbox'),
    ),
    Case(
        'annotation-without-area',
        ('annotations[0] has no area', 'COCO format'),
        spoil=without('annotations', 'area'),
    ),
    Case(
        'unknown-category',
        ('annotation 1 has 99', 'category_id', 'correct'),
        spoil=first('annotations', category_id=99),
    ),
    Case(
        'none-of-the-classes',
        ('none of the 4 classes', 'circle', 'balloon', 'metainfo=dict(classes=...)'),
        spoil=each('categories', name='balloon'),
    ),
    Case(
        'annotation-id-twice',
        ("ids of 'annotations' are not unique", 'e.g. 2'),
        spoil=first('annotations', id=2),
    ),
    Case('image-id-twice', ("ids of 'images' are not unique", 'e.g. 2'), spoil=first('images', id=2)),
    Case(
        'annotations-of-other-images',
        ('no annotation belongs to an image', 'image_id'),
        spoil=each('annotations', image_id=999),
    ),
    Case(
        'box-outside',
        ('lie outside of their image', 'annotation 1: [500, 500, 20, 20]', 'correct or delete'),
        spoil=first('annotations', bbox=[500, 500, 20, 20]),
    ),
    Case(
        'box-left-of-the-image',
        ('lie outside of their image', '[-30, 0, 20, 20]'),
        spoil=first('annotations', bbox=[-30, 0, 20, 20]),
    ),
    Case(
        'box-of-no-size',
        ('smaller than a pixel', 'annotation 1: [5, 5, 0, 10]', 'correct or delete'),
        spoil=first('annotations', bbox=[5, 5, 0, 10]),
    ),
    Case(
        'box-of-negative-size',
        ('smaller than a pixel', '[20, 20, -10, 5]'),
        spoil=first('annotations', bbox=[20, 20, -10, 5]),
    ),
    Case(
        'boxes-as-shares',
        ('smaller than a pixel', 'in pixels'),
        spoil=each('annotations', bbox=[0.1, 0.1, 0.5, 0.5]),
    ),
    Case(
        'box-of-three-numbers',
        ('annotation 1 has bbox=[1, 2, 3]', '[x, y, width, height]'),
        spoil=first('annotations', bbox=[1, 2, 3]),
    ),
    Case(
        'box-with-nan',
        ('annotation 1 has bbox=', 'nan', '[x, y, width, height]'),
        spoil=first('annotations', bbox=[1, 2, 3, float('nan')]),
    ),
    Case(
        'annotation-without-mask',
        ('annotation 1', 'with_mask=True'),
        spoil=without('annotations', 'segmentation'),
    ),
    Case(
        'no-image-folder',
        ('train2017', 'python -m mmdet_cbn.data.shapes'),
        spoil=lambda folder: shutil.rmtree(folder / 'shapes/train2017'),
    ),
    Case('image-missing', ('1 of its 4 images', '000000000001.jpg', 'unpack'), spoil=remove(IMAGE)),
    Case(
        'misspelt-data-set',
        ("type='CocoDatset'", 'did you mean CocoDataset'),
        config="train_dataloader = dict(dataset=dict(type='CocoDatset'))\n",
    ),
    Case(
        'image-cut-short',
        (f'cannot decode the image {IMAGE}:', 'replace it'),
        spoil=cut(IMAGE, 0.5),
        runs=True,
    ),
    Case(
        'image-cut-short-in-a-worker',
        (f'cannot decode the image {IMAGE}:', 'replace it'),
        config='train_dataloader = dict(num_workers=1)\n',
        spoil=cut(IMAGE, 0.5),
        runs=True,
    ),
    Case(
        'image-is-text',
        (f'cannot decode the image {IMAGE}:', 'replace it'),
        spoil=write(IMAGE, 'not found'),
        runs=True,
    ),
    Case('image-is-empty', ('an empty file', 'find FOLDER -size 0'), spoil=cut(IMAGE, 0), runs=True),
    Case(
        'misspelt-transform',
        ('Rezise is not in the registry', 'spelling'),
        config="train_dataloader = dict(dataset=dict(pipeline=[dict(type='Rezise')]))\n",
        runs=True,
    ),
    Case(
        'misspelt-argument-of-optimizer',
        ('SGD', 'momemtum', 'check the arguments'),
        config='optim_wrapper = dict(optimizer=dict(momemtum=0.9))\n',
        runs=True,
    ),
    Case(
        'heads-of-80-classes',
        ('roi_head.bbox_head has num_classes=80', '4 classes (circle', 'set num_classes'),
        config='model = dict(roi_head=dict(bbox_head=dict(num_classes=80)))\n',
    ),
]


@pytest.mark.parametrize('case', CASES, ids=lambda case: case.name)
def test_ends_with_one_message(case, check):
    check(TRAIN, case)
