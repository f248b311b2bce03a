"""The contents of every data set are looked at, wherever in a config it stands."""

import json

import pytest

pytest.importorskip('mmdet')

from mmengine.registry import init_default_scope
from PIL import Image
from torch import nn

from mmdet_cbn.launch import LaunchError
from mmdet_cbn.launch.data_content import check_content


@pytest.fixture
def dataset(tmp_path):
    """A COCO data set with a box that has no mask."""
    path = tmp_path / 'boxes.json'
    path.write_text(
        '{"images": [{"id": 1, "file_name": "1.jpg", "width": 9, "height": 9}], '
        '"categories": [{"id": 1, "name": "cat"}], "annotations": '
        '[{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5], "area": 25}]}'
    )
    init_default_scope('mmdet')
    return {'type': 'CocoDataset', 'ann_file': str(path), 'metainfo': {'classes': ('cat',)}, 'pipeline': []}


def check(dataset):
    check_content({'train_dataloader': {'dataset': dataset}}, ['train', 'val'], nn.Identity())


@pytest.mark.parametrize(
    'pipeline',
    [
        lambda load: [load],
        lambda load: [{'type': 'RandomApply', 'transforms': [load]}],
        lambda load: [{'type': 'RandomChoice', 'transforms': [[{'type': 'RandomFlip'}], [load]]}],
    ],
)
def test_pipelines_that_load_masks(dataset, pipeline):
    load = {'type': 'LoadAnnotations', 'with_bbox': True}
    check({**dataset, 'pipeline': pipeline(load)})
    with pytest.raises(LaunchError, match=r'boxes\.json: 1 annotations have no segmentation.*with_mask=True'):
        check({**dataset, 'pipeline': pipeline({**load, 'with_mask': True})})


@pytest.mark.parametrize(
    'wrap',
    [
        lambda inner: {'type': 'RepeatDataset', 'times': 2, 'dataset': inner},
        lambda inner: {'type': 'ConcatDataset', 'datasets': [inner, inner]},
    ],
)
def test_wrapped_data_sets(dataset, wrap):
    check(wrap(dataset))
    with pytest.raises(LaunchError, match='none of the 1 classes'):
        check(wrap({**dataset, 'metainfo': {'classes': ('dog',)}}))


def test_data_that_are_far_away_or_not_of_coco(dataset):
    for far in (
        {'backend_args': {'backend': 'petrel'}, 'ann_file': 'nowhere.json'},
        {'ann_file': 's3://bucket/boxes.json'},
        {'type': 'XMLDataset', 'ann_file': 'nowhere.txt'},
    ):
        check({**dataset, **far})


@pytest.mark.parametrize(
    ('every_image', 'told'),
    [(False, '200 of 200 images that were opened (--check opens all 600)'), (True, '600 of 600 images')],
)
def test_sizes_of_some_or_all_images_are_compared(dataset, every_image, told, tmp_path, capsys):
    Image.new('RGB', (8, 9)).save(tmp_path / '1.png')
    coco = json.loads((tmp_path / 'boxes.json').read_text())
    image = {'file_name': '1.png', 'width': 9, 'height': 9}
    (tmp_path / 'boxes.json').write_text(
        json.dumps(coco | {'images': [image | {'id': n} for n in range(600)]})
    )
    cfg = {'train_dataloader': {'dataset': {**dataset, 'data_prefix': {'img': str(tmp_path)}}}}
    check_content(cfg, ['train'], nn.Identity(), every_image)
    assert told in capsys.readouterr().err
