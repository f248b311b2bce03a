"""Annotation files with anything wrong in them: one message, or MMDetection trains and evaluates with them.

To search for longer: pytest tests/launch/test_annotation_fuzz.py --hypothesis-profile=search
"""

import faulthandler
import json
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from copy import deepcopy
from io import StringIO
from typing import Any

import pytest

pytest.importorskip('mmdet')

import cv2
import numpy as np
import torch
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from mmdet.evaluation import CocoMetric
from mmdet.registry import DATASETS
from mmengine.registry import init_default_scope
from pycocotools import mask as mask_utils

from mmdet_cbn.launch.annotations import check_annotations
from mmdet_cbn.launch.errors import LaunchError

pytestmark = pytest.mark.slow

HANGS = 120  # seconds
HEIGHT, WIDTH = 40, 56
CLASSES = ('cat', 'dog')
NAMES = ('a.png', 'b.png')
STRANGE = [
    *(None, True, False, 0, 1, 2, -1, 0.5, 1e9, 1e308, -1e308, 2**31, 2**63, 10**30),
    *(float('nan'), float('inf'), float('-inf')),
    *('', 'text', '1', 'cat', 'a.png', '..', '\0', '\ud800', 'h\u00e9', 'x' * 300, '0o', '04'),
    *(
        [],
        {},
        [1],
        [[]],
        [[1]],
        [[1, 2, 3, 4]],
        [1, 2, 3, 4],
        [[1, 2, 3, 4, 5, 6]],
        {'size': [1, 1]},
        [None] * 4,
    ),
    {'size': [HEIGHT, WIDTH], 'counts': [1, 2]},
    {'size': [HEIGHT, WIDTH], 'counts': '04'},
]


def annotation(number: int, image: int, category: int, mask: Any, **others: Any) -> dict[str, Any]:
    box = [4 * number, 3, 12, 10]
    entry = {'id': number, 'image_id': image, 'category_id': category, 'bbox': box, 'area': 120.0}
    return {**entry, 'iscrowd': 0, 'segmentation': mask, **others}


def sound() -> dict[str, Any]:
    """Two images, two classes and one more category, polygons and both kinds of run lengths."""
    bitmap = np.zeros((HEIGHT, WIDTH), np.uint8, order='F')
    bitmap[3:13, 8:20] = 1
    encoded = mask_utils.encode(bitmap)
    compressed = {'size': [HEIGHT, WIDTH], 'counts': encoded['counts'].decode()}
    lengths = {'size': [HEIGHT, WIDTH], 'counts': [100, 50, HEIGHT * WIDTH - 150]}
    return {
        'images': [
            {'id': number, 'file_name': name, 'width': WIDTH, 'height': HEIGHT}
            for number, name in enumerate(NAMES, 1)
        ],
        'categories': [{'id': 1, 'name': 'cat'}, {'id': 5, 'name': 'dog'}, {'id': 7, 'name': 'bird'}],
        'annotations': [
            annotation(1, 1, 1, [[4, 3, 16, 3, 16, 13, 4, 13]]),
            annotation(2, 1, 5, compressed),
            annotation(3, 2, 5, [[12, 3, 20, 3, 20, 13.5], [1, 1, 5, 1, 5, 5]]),
            annotation(4, 2, 1, lengths, iscrowd=1),
            annotation(5, 2, 7, 'of a class that nobody asks for', ignore=1),
        ],
    }


def places(node: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield where the parts of a tree are, the tree itself left out."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        yield (*place, key)
        if isinstance(value, dict | list):
            yield from places(value, (*place, key))


def find(tree: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        tree = tree[key]
    return tree


@st.composite
def spoiled(draw: st.DrawFn) -> tuple[dict[str, Any], bool]:
    """Annotations with up to three things changed, and whether they are evaluated."""
    tree = sound()
    for _ in range(draw(st.integers(1, 3))):
        all_places = list(places(tree))
        if not all_places:
            break
        *parent, key = draw(st.sampled_from(all_places))
        parent = find(tree, parent)
        change = draw(st.sampled_from(['drop', 'replace', 'copy', 'repeat', 'retype', 'scale']))
        value = parent[key]
        event(change)
        if change == 'drop':
            del parent[key]
        elif change == 'replace':
            parent[key] = deepcopy(draw(st.sampled_from(STRANGE)))
        elif change == 'copy':
            parent[key] = deepcopy(find(tree, draw(st.sampled_from(all_places))))
        elif change == 'repeat' and isinstance(parent, list):
            parent += [deepcopy(value)] * draw(st.sampled_from([1, 2, 200]))
        elif change == 'retype':
            parent[key] = draw(st.sampled_from([str, lambda x: [x], lambda x: {'a': x}]))(value)
        elif change == 'scale' and isinstance(value, int | float):
            parent[key] = value * draw(st.sampled_from([-1, 0, 0.5, 1.0, 3, 1e3, 1e15]))
    return tree, draw(st.booleans())


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('fuzz')
    for name in NAMES:
        cv2.imwrite(str(folder / name), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    return folder


def use(path: str, folder: str, evaluated: bool) -> None:
    """Load all that MMDetection trains with, or evaluate a detector that finds everything."""
    init_default_scope('mmdet')
    load = {'type': 'LoadAnnotations', 'with_bbox': True, 'with_mask': True}
    keys = ('img_id', 'img_path', 'ori_shape', 'img_shape')
    dataset = DATASETS.build(
        {
            'type': 'CocoDataset',
            'ann_file': path,
            'data_prefix': {'img': folder},
            'metainfo': {'classes': CLASSES},
            'test_mode': evaluated,
            'pipeline': [{'type': 'LoadImageFromFile'}, load, {'type': 'PackDetInputs', 'meta_keys': keys}],
        }
    )
    samples = [dataset[number]['data_samples'] for number in range(len(dataset))]
    found = [sample.gt_instances for sample in samples]
    assert evaluated or any(len(instances) for instances in found)
    if not evaluated:
        return
    metric = CocoMetric(ann_file=path, metric=['bbox', 'segm'])
    metric.dataset_meta = dataset.metainfo
    for sample, instances in zip(samples, found, strict=True):
        count = len(instances)
        predictions = {
            'bboxes': instances.bboxes.tensor,
            'masks': torch.from_numpy(instances.masks.to_ndarray()).reshape(count, HEIGHT, WIDTH),
            'labels': instances.labels,
            'scores': torch.linspace(1, 0.5, count),
        }
        metric.process({}, [{**sample.metainfo, 'pred_instances': predictions}])
    metric.evaluate(len(samples))


def refusal(path: str, folder: str, evaluated: bool) -> str | None:
    try:
        check_annotations(path, folder, CLASSES, masks=True, annotated=True, evaluated=evaluated)
    except LaunchError as error:
        return str(error)
    return None


@pytest.mark.filterwarnings('ignore')
@settings(max_examples=10 * settings.default.max_examples, suppress_health_check=[HealthCheck.too_slow])
@given(spoiled())
def test_one_message_or_data_that_can_be_used(folder, case):
    tree, evaluated = case
    path = folder / 'annotations.json'
    path.write_text(json.dumps(tree))
    faulthandler.dump_traceback_later(HANGS, exit=True)
    with redirect_stderr(StringIO()) as printed, redirect_stdout(StringIO()):
        message = refusal(str(path), str(folder), evaluated)
        if message:
            event('refused')
            assert len(message.splitlines()) == 1, message
            assert len(message) < 800, message
        elif 'have another size' in printed.getvalue():
            event('other sizes')
        else:
            event('used')
            use(str(path), str(folder), evaluated)
    faulthandler.cancel_dump_traceback_later()


@pytest.mark.parametrize('evaluated', [False, True])
def test_sound_data_can_be_used(evaluated, folder, capsys):
    path = folder / 'annotations.json'
    path.write_text(json.dumps(sound()))
    assert refusal(str(path), str(folder), evaluated) is None
    assert capsys.readouterr().err == ''
    use(str(path), str(folder), evaluated)
