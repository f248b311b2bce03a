"""Training on data that are wrong."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.machine import become_nobody
from tests.helpers.wrong_input import TRAIN, Case, cut, each_of, narrow, remove, write

pytestmark = pytest.mark.slow

TRAINING = 'shapes/annotations/instances_train2017.json'
VALIDATION = 'shapes/annotations/instances_val2017.json'
IMAGE = 'shapes/train2017/000000000001.jpg'


def annotations(change: Callable[[dict[str, Any]], Any], name: str = TRAINING) -> Callable[[Path], None]:
    """Change what an annotation file holds, in place or by returning something else."""

    def spoil(folder: Path) -> None:
        path = folder / name
        content = json.loads(path.read_text())
        changed = change(content)
        path.write_text(json.dumps(content if changed is None else changed))

    return spoil


def each(section: str, **values: Any) -> Callable[[Path], None]:
    return annotations(lambda coco: [entry.update(values) for entry in coco[section]] and None)


def first(section: str, **values: Any) -> Callable[[Path], None]:
    return annotations(lambda coco: coco[section][0].update(values))


def without(section: str, key: str, name: str = TRAINING) -> Callable[[Path], None]:
    return annotations(lambda coco: [coco[section][0].pop(key), None][1], name)


def first_of_validation(**values: Any) -> Callable[[Path], None]:
    return annotations(lambda coco: coco['annotations'][0].update(values), VALIDATION)


def encoded(encoding: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / TRAINING
        path.write_text(path.read_text(), encoding=encoding)

    return spoil


def folder_for_image(folder: Path) -> None:
    (folder / IMAGE).unlink()
    (folder / IMAGE).mkdir()


def unreadable(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).chmod(0)


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
    *(
        Case(
            f'mask-is-{name}',
            ('the segmentation of annotation 1', *words),
            spoil=first('annotations', segmentation=mask),
        )
        for name, mask, words in (
            ('flat', [1, 2, 3, 4, 5, 6], ('is a flat list', '[[x1, y1')),
            ('text', 'circle', ('is a str', 'list of polygons')),
            ('number', 7, ('is a int', 'list of polygons')),
            ('polygons-as-text', [['1', '2', '3', '4', '5', '6']], ("the coordinate '1'",)),
            ('polygon-with-nan', [[1, 2, 3, 4, 5, float('nan')]], ('the coordinate nan',)),
            ('polygon-far-away', [[1, 2, 3, 4, 5, 1e12]], ('the coordinate 1000000000000.0', 'far outside')),
            (
                'of-other-size',
                {'size': [32, 32], 'counts': [1024]},
                ('size=[32, 32]', '[64, 64] (height, width)'),
            ),
            ('of-too-many-pixels', {'size': [64, 64], 'counts': [9999]}, ('9999 pixels', '4096')),
            ('of-too-few-pixels', {'size': [64, 64], 'counts': [10, 5]}, ('15 pixels', '4096')),
            ('of-no-counts', {'size': [64, 64]}, ('counts that are no run lengths',)),
            ('a-bad-text', {'size': [64, 64], 'counts': 'hello'}, ('a text in counts',)),
            ('a-cut-text', {'size': [64, 64], 'counts': '0o'}, ('a text in counts',)),
        )
    ),
    Case(
        'all-masks-are-lines',
        ('have no polygon of three points', '[[1, 2, 3, 4]]', 'correct or delete'),
        spoil=each('annotations', segmentation=[[1, 2, 3, 4]]),
    ),
    Case(
        'all-are-crowds', ('nothing is left to learn', 'iscrowd to 0'), spoil=each('annotations', iscrowd=1)
    ),
    Case(
        'crowd-is-text',
        ("annotation 1 has iscrowd='no'", '0 or 1'),
        spoil=first('annotations', iscrowd='no'),
    ),
    Case(
        'line-as-mask-in-validation',
        ('val2017.json', 'begins with a polygon of two points', '[[1, 2, 3, 4]]', 'correct or delete'),
        spoil=first_of_validation(segmentation=[[1, 2, 3, 4]]),
    ),
    Case(
        'no-mask-in-validation',
        ('val2017.json', 'no segmentation'),
        spoil=without('annotations', 'segmentation', VALIDATION),
    ),
    Case(
        'no-crowd-flag-in-validation',
        ('val2017.json', 'has no iscrowd', 'iscrowd=0'),
        spoil=without('annotations', 'iscrowd', VALIDATION),
    ),
    Case(
        'annotation-0-in-validation',
        ('val2017.json', 'annotation 0', 'from 1'),
        spoil=first_of_validation(id=0),
    ),
    Case(
        'evaluator-with-another-file',
        ('other.json', 'no segmentation'),
        config="val_evaluator = dict(ann_file='other.json')\n",
        spoil=lambda folder: (
            without('annotations', 'segmentation', VALIDATION)(folder),
            (folder / VALIDATION).rename(folder / 'other.json'),
            shutil.copy(folder / TRAINING, folder / VALIDATION),
            shutil.rmtree(folder / 'shapes/val2017'),
            shutil.copytree(folder / 'shapes/train2017', folder / 'shapes/val2017'),
        ),
    ),
    Case(
        'category-twice',
        ("ids of 'categories' are not unique",),
        spoil=annotations(lambda coco: coco['categories'].append(coco['categories'][0])),
    ),
    Case(
        'category-name-twice',
        ('stand for several of its categories', 'circle', 'a name of its own'),
        spoil=annotations(lambda coco: coco['categories'].append({'id': 99, 'name': 'circle'})),
    ),
    Case(
        'classes-without-comma',
        ("classes='circle'", "('circle',)", 'comma'),
        config="train_dataloader = dict(dataset=dict(metainfo=dict(classes=('circle'))))\n",
    ),
    Case(
        'annotations-with-mark',
        ('UTF-8, without a mark at its start', 'save it so'),
        spoil=encoded('utf-8-sig'),
    ),
    Case(
        'annotations-in-utf-16', ('UTF-8, without a mark at its start', 'save it so'), spoil=encoded('utf-16')
    ),
    Case(
        'unreadable-annotations',
        (TRAINING, 'Permission denied', 'another path'),
        spoil=unreadable(TRAINING),
        prepare=become_nobody,
    ),
    Case(
        'unreadable-images',
        ('shapes/train2017', 'Permission denied', 'another path'),
        spoil=unreadable('shapes/train2017'),
        prepare=become_nobody,
    ),
    Case('image-is-a-folder', ('000000000001.jpg', 'is a folder'), spoil=folder_for_image),
    *(
        Case(
            f'mask-of-another-size-than-its-image-{workers}',
            ('a mask has another size than its image', 'width and height', '--check'),
            config=f'train_dataloader = dict(num_workers={workers})\n',
            spoil=lambda folder: (
                first('annotations', segmentation={'size': [64, 64], 'counts': [100, 50, 3946]})(folder),
                narrow(IMAGE)(folder),
            ),
            runs=True,
        )
        for workers in (0, 1)
    ),
    Case(
        'no-batch-of-a-small-set',
        ('train_dataloader has no batch', '4 images', 'batch_size=8', 'drop_last'),
        config='train_dataloader = dict(batch_size=8, drop_last=True)\n',
        runs=True,
    ),
    Case(
        'no-image-after-filtering',
        ('CocoDataset has no image left', 'min_size'),
        config='train_dataloader = dict(dataset=dict(filter_cfg=dict(min_size=65)))\n',
        runs=True,
    ),
    Case(
        'no-image-after-filtering-for-ever',
        ('CocoDataset has no image left', 'min_size'),
        config="train_dataloader = dict(sampler=dict(type='InfiniteSampler'), "
        'dataset=dict(filter_cfg=dict(min_size=65)))\n'
        "train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=2)\n",
        runs=True,
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


@each_of(CASES)
def test_ends_with_one_message(case, check):
    check(TRAIN, case)
