"""Files and folders that a config takes data from are there, or the message says where to get them."""

import json

import pytest

pytest.importorskip('mmengine')

from mmengine.config import Config

from mmdet_cbn.launch import LaunchError, check_data


@pytest.fixture
def coco(tmp_path):
    """A folder laid out like COCO 2017, with one file in each place."""
    for name in ('train2017/1.jpg', 'val2017/2.jpg'):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    for split in ('train', 'val'):
        path = tmp_path / f'annotations/instances_{split}2017.json'
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({}))
    return tmp_path


def dataset(root, split='train'):
    return {
        'type': 'CocoDataset',
        'data_root': str(root),
        'ann_file': f'annotations/instances_{split}2017.json',
        'data_prefix': {'img': f'{split}2017/'},
        'backend_args': None,
    }


def config(root, train=None):
    return Config(
        {
            'train_dataloader': {'dataset': train or dataset(root)},
            'val_dataloader': {'dataset': dataset(root, 'val')},
            'val_evaluator': {'ann_file': f'{root}/annotations/instances_val2017.json'},
            'test_dataloader': {'dataset': dataset('/test/is/not/asked/for')},
        }
    )


def message(cfg, splits=('train', 'val')):
    with pytest.raises(LaunchError) as info:
        check_data(cfg, splits)
    return str(info.value)


def test_complete_data_passes(coco):
    check_data(config(coco), ['train', 'val'])


@pytest.mark.parametrize(
    'name', ['annotations/instances_train2017.json', 'annotations/instances_val2017.json']
)
def test_missing_annotations(coco, name):
    (coco / name).unlink()
    text = message(config(coco))
    assert text.count(f'{coco / name}\n') == 1
    assert '/train2017/' not in text
    for word in ('https://cocodataset.org', 'train2017.zip', 'annotations_trainval2017.zip', 'COCO_ROOT'):
        assert word in text


def test_missing_image_folder(coco):
    (coco / 'val2017/2.jpg').unlink()
    assert f'{coco}/val2017/' in message(config(coco))  # empty
    (coco / 'val2017').rmdir()
    assert f'{coco}/val2017/' in message(config(coco))


def test_only_the_asked_splits_are_looked_at(coco):
    (coco / 'train2017/1.jpg').unlink()
    check_data(config(coco), ['val'])
    assert '/test/is/not/asked/for' in message(config(coco), ['test'])


@pytest.mark.parametrize(
    'wrap',
    [
        lambda inner: {'type': 'RepeatDataset', 'times': 2, 'dataset': inner},
        lambda inner: {'type': 'ClassBalancedDataset', 'oversample_thr': 0.1, 'dataset': inner},
        lambda inner: {'type': 'MultiImageMixDataset', 'dataset': inner, 'pipeline': []},
        lambda inner: {'type': 'ConcatDataset', 'datasets': [inner, inner]},
        lambda inner: [{'type': 'RepeatDataset', 'dataset': {'datasets': (inner,)}}],
    ],
)
def test_wrapped_datasets(coco, wrap):
    check_data(config(coco, wrap(dataset(coco))), ['train'])
    assert '/nowhere/train2017/' in message(config(coco, wrap(dataset('/nowhere'))), ['train'])


def test_remote_data_is_left_out(coco):
    train = dataset('s3://bucket/coco')
    check_data(config(coco, train), ['train'])
    train = dataset('/nowhere')
    train['backend_args'] = {'backend': 'petrel'}
    check_data(config(coco, train), ['train'])


def test_shapes_name_their_generator(tmp_path):
    text = message(config(f'{tmp_path}/shapes'))
    assert f'python -m mmdet_cbn.data.shapes {tmp_path}/shapes\n' in text + '\n'
    assert 'cocodataset' not in text


def test_other_data_names_the_options(tmp_path):
    other = {**dataset(tmp_path), 'ann_file': 'mine.json', 'data_prefix': {'img': 'images'}}
    assert '--cfg-options train_dataloader' in message(config(tmp_path, other), ['train'])


@pytest.mark.parametrize('slash', ['', '/'])
def test_data_root_from_the_environment(coco, tmp_path, monkeypatch, slash):
    """The way in which the configs of this project name COCO, with and without a slash at the end."""
    path = tmp_path / 'config.py'
    path.write_text(
        "data_root = '{{$COCO_ROOT:data/coco}}'\n"
        "split = dict(data_root=data_root, ann_file='annotations/instances_val2017.json', "
        "data_prefix=dict(img='val2017/'))\n"
        'test_dataloader = dict(dataset=split)\n'
        "test_evaluator = dict(ann_file=data_root + '/annotations/instances_val2017.json')\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('COCO_ROOT', raising=False)
    assert 'data/coco/annotations/instances_val2017.json\n' in message(Config.fromfile(path), ['test'])
    monkeypatch.setenv('COCO_ROOT', f'{coco}{slash}')
    check_data(Config.fromfile(path), ['test'])
