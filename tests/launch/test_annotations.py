"""What is harmless in an annotation file passes, with counts where something is left out."""

import json
from copy import deepcopy

import pytest

pytest.importorskip('mmengine')

from mmdet_cbn.launch.annotations import check_annotations
from mmdet_cbn.launch.errors import LaunchError


def annotation(number, box, **others):
    entry = {
        'id': number,
        'image_id': 1,
        'category_id': 1,
        'bbox': box,
        'area': box[2] * box[3],
        'iscrowd': 0,
    }
    return {**entry, 'segmentation': [[1, 1, 5, 1, 5, 5]], **others}


@pytest.fixture
def coco():
    """200 sound boxes on the first of two images."""
    return {
        'images': [{'id': n, 'file_name': f'a/{n}.jpg', 'width': 100, 'height': 80} for n in (1, 2)],
        'categories': [{'id': 1, 'name': 'cat'}, {'id': 7, 'name': 'dog'}],
        'annotations': [annotation(n, [10, 10, 20, 20]) for n in range(1, 201)],
    }


@pytest.fixture
def check(tmp_path, capsys):
    """Write the annotations and check them; return what was printed."""

    def check(coco, classes=('cat',), masks=True, annotated=True):
        (tmp_path / 'a').mkdir(exist_ok=True)
        for name in ('1.jpg', '2.jpg'):
            (tmp_path / 'a' / name).touch()
        path = tmp_path / 'annotations.json'
        path.write_text(json.dumps(coco))
        check_annotations(str(path), str(tmp_path), classes, masks, annotated)
        return capsys.readouterr().err

    return check


def test_sound_data_pass_silently(check, coco):
    """An image without annotations, a class that is not trained, crowds, and boxes that touch the border."""
    rle = {'size': [80, 100], 'counts': [10, 5, 80 * 100 - 15]}
    coco['annotations'] += [
        annotation(201, [0, 0, 100, 80]),
        annotation(202, [90.5, 70, 10.2, 10.2]),  # rounded
        annotation(203, [5, 5, 30, 30], iscrowd=1, segmentation=rle, category_id=7),
    ]
    assert check(coco) == ''


@pytest.mark.parametrize(
    ('box', 'words'),
    [
        ([10, 10, 0, 20], '1 of 201 boxes are smaller than a pixel or have area 0, e.g. annotation 201'),
        ([10, 10, 20, 0.5], '1 of 201 boxes are smaller than a pixel'),
        ([100, 10, 20, 20], '1 of 201 boxes lie outside of their image'),
        ([10, -25, 20, 20], '1 of 201 boxes lie outside of their image'),
    ],
)
def test_a_few_unusable_boxes_are_counted(check, coco, box, words):
    coco['annotations'].append(annotation(201, box))
    printed = check(coco)
    assert words in printed
    assert 'MMDetection leaves them out' in printed
    assert len(printed.splitlines()) == 1
    coco['annotations'] += [annotation(n, box) for n in range(202, 205)]
    with pytest.raises(LaunchError, match=r'annotations\.json: 4 of 204 boxes .*correct or delete'):
        check(coco)


def test_ignored_annotations_are_not_looked_at(check, coco):
    coco['annotations'] += [annotation(n, [0, 0, 0, 0], ignore=1) for n in range(201, 299)]
    assert check(coco) == ''


def test_boxes_beyond_the_image_are_counted(check, coco):
    """As of people of whom a part is seen, and as of corners written in the place of sizes."""
    coco['annotations'] += [annotation(n, [60, 40, 90, 70]) for n in range(201, 205)]
    assert '4 of 204 boxes reach beyond their image, e.g. annotation 201: [60, 40, 90, 70]' in check(coco)


def test_some_classes_and_images_that_are_not_there(check, coco):
    assert '1 of 2 classes are not in its categories: bird' in check(coco, ('cat', 'bird'))
    coco['annotations'][0]['image_id'] = 3
    assert '1 of 200 annotations belong to no image' in check(coco)


def test_a_test_set_has_no_annotations(check, coco):
    del coco['annotations']
    assert check(coco, annotated=False) == ''


def test_boxes_need_no_masks(check, coco):
    for entry in coco['annotations']:
        del entry['segmentation']
    assert check(deepcopy(coco), masks=False) == ''


def test_a_file_that_a_damaged_disk_does_not_give():
    with pytest.raises(LaunchError, match=r'/proc/self/mem: it cannot be read \(Input/output error\)'):
        check_annotations('/proc/self/mem', None, None, masks=False, annotated=True)
