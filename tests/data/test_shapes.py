"""The generated data set, held against the pictures, pycocotools, MMDetection and plain geometry."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from scipy.ndimage import binary_dilation, binary_erosion

from mmdet_cbn.data import shapes

SIZE = 96
COUNTS = {'train': 120, 'val': 30}


@pytest.fixture(scope='module')
def root(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp('shapes') / 'new' / 'data'
    assert shapes.generate(out, **COUNTS, seed=3, size=SIZE)
    return out


@pytest.fixture(scope='module')
def coco(root) -> COCO:
    return COCO(root / 'annotations' / 'instances_train2017.json')


@pytest.fixture(scope='module')
def instances(coco) -> list[dict]:
    return coco.loadAnns(coco.getAnnIds(iscrowd=False))


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob('*') if path.is_file()}


def hue_and_saturation(root: Path, coco: COCO, image_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Hue in radians and saturation in [0, 1], as they are in the file."""
    path = root / 'train2017' / coco.imgs[image_id]['file_name']
    hsv = np.asarray(Image.open(path).convert('HSV')) / 255
    return 2 * np.pi * hsv[..., 0], hsv[..., 1]


@pytest.mark.parametrize('split', COUNTS)
def test_layout_is_that_of_coco(root, split):
    coco = COCO(root / 'annotations' / f'instances_{split}2017.json')
    files = sorted(path.name for path in (root / f'{split}2017').iterdir())
    assert files == sorted(image['file_name'] for image in coco.imgs.values())
    assert len(files) == COUNTS[split]
    for image in coco.imgs.values():
        with Image.open(root / f'{split}2017' / image['file_name']) as picture:
            assert picture.size == (image['width'], image['height']) == (SIZE, SIZE)
            assert picture.mode == 'RGB'
    assert min(coco.anns) == 1  # pycocotools takes an annotation of id 0 for no match
    assert len(coco.anns) == len(coco.dataset['annotations'])


def test_every_class_occurs(coco, instances):
    assert [category['name'] for category in coco.loadCats(coco.getCatIds())] == list(shapes.CLASSES)
    assert len(shapes.CLASSES) >= 4
    assert {annotation['category_id'] for annotation in instances} == set(coco.getCatIds())


def test_instances_are_well_visible(coco, instances):
    per_image = [len(coco.getAnnIds(image_id, iscrowd=False)) for image_id in coco.imgs]
    assert min(per_image) >= 1
    assert max(per_image) == 4
    # Half of a star, the smallest shape, of the least diameter.
    assert min(annotation['area'] for annotation in instances) >= 0.011 * SIZE**2


def test_area_and_box_are_those_of_the_polygons(instances):
    for annotation in instances:
        area, corners, around = 0.0, [], 0.0
        for polygon in annotation['segmentation']:
            points = np.reshape(polygon, (-1, 2))
            following = np.roll(points, -1, axis=0)
            area += abs(np.sum(points[:, 0] * following[:, 1] - points[:, 1] * following[:, 0])) / 2
            around += np.linalg.norm(points - following, axis=1).sum()
            corners.append(points)
        low, high = np.concatenate(corners).min(0), np.concatenate(corners).max(0)
        assert low.min() >= 0
        assert high.max() <= SIZE
        assert annotation['area'] == pytest.approx(area, abs=around / 4)
        x, y, width, height = annotation['bbox']
        inset = np.array([x, y, -x - width, -y - height]) - [*low, *-high]
        assert inset.min() >= -1
        assert inset.max() <= 6  # a tip is narrower than a pixel over some length


def test_area_and_box_are_those_of_the_mask(coco):
    for annotation in coco.anns.values():
        mask = coco.annToMask(annotation)
        rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
        assert mask.sum() == annotation['area']
        expected = [columns[0], rows[0], np.ptp(columns) + 1, np.ptp(rows) + 1]
        np.testing.assert_array_equal(annotation['bbox'], expected)


def test_masks_are_disjoint(coco):
    for image_id in coco.imgs:
        layers = [coco.annToMask(annotation) for annotation in coco.imgToAnns[image_id]]
        twice = np.sum(layers, axis=0) > 1
        assert twice.mean() < 0.004
        assert not binary_erosion(twice, np.ones((2, 2))).any()  # no more than a line of pixels


def test_masks_are_what_the_picture_shows(root, coco):
    """Objects are colourful, the background is not; within what is visible of one, the hue is one."""
    for image_id in coco.imgs:
        hue, saturation = hue_and_saturation(root, coco, image_id)
        masks = [coco.annToMask(annotation) for annotation in coco.imgToAnns[image_id]]
        inside = binary_erosion(np.any(masks, axis=0), iterations=3)
        outside = ~binary_dilation(np.any(masks, axis=0), iterations=3)
        assert np.mean(saturation[outside] < 0.4) > 0.95
        assert np.mean(saturation[inside] > 0.3) > 0.95
        for mask in masks:
            seen = hue[binary_erosion(mask, iterations=3)]
            if seen.size:
                assert abs(np.exp(1j * seen).mean()) > 0.95


def test_occlusion_cuts_instances_in_parts(instances):
    assert any(len(annotation['segmentation']) > 1 for annotation in instances)


def test_crowds_are_run_lengths_over_several_shapes(coco):
    crowds = coco.loadAnns(coco.getAnnIds(iscrowd=True))
    assert 0 < len(crowds) < len(coco.imgs) / 2
    for annotation in crowds:
        assert set(annotation['segmentation']) == {'size', 'counts'}
        x, y, width, height = annotation['bbox']
        assert 0.1 < annotation['area'] / (width * height) < 0.9


def test_mmdetection_reads_it(root):
    from mmdet.datasets import CocoDataset
    from mmdet.utils import register_all_modules

    register_all_modules(init_default_scope=True)
    dataset = CocoDataset(
        ann_file='annotations/instances_train2017.json',
        data_prefix={'img': 'train2017/'},
        data_root=str(root),
        metainfo={'classes': shapes.CLASSES},
        pipeline=[
            {'type': 'LoadImageFromFile'},
            {'type': 'LoadAnnotations', 'with_bbox': True, 'with_mask': True},
        ],
    )
    assert len(dataset) == COUNTS['train']
    crowds = 0
    for index in range(len(dataset)):
        sample = dataset[index]
        assert len(sample['gt_masks']) == len(sample['gt_bboxes']) > 0
        crowds += int(np.sum(sample['gt_ignore_flags']))
    assert crowds > 0


def test_equal_arguments_give_equal_bytes(root, tmp_path):
    shapes.generate(tmp_path / 'again', **COUNTS, seed=3, size=SIZE)
    assert contents(tmp_path / 'again') == contents(root)


def test_an_image_does_not_depend_on_how_many_there_are(root, tmp_path):
    shapes.generate(tmp_path / 'few', train=5, val=2, seed=3, size=SIZE)
    few, many = contents(tmp_path / 'few'), contents(root)
    for name in few:
        if name.endswith('.jpg'):
            assert few[name] == many[name]
        elif name.startswith('annotations'):
            few_annotations = json.loads(few[name])['annotations']
            assert few_annotations == json.loads(many[name])['annotations'][: len(few_annotations)]


def test_seeds_and_splits_differ(root, tmp_path):
    shapes.generate(tmp_path / 'other', train=1, val=1, seed=4, size=SIZE)
    first = [
        (folder / split / '000000000001.jpg').read_bytes()
        for folder in (root, tmp_path / 'other')
        for split in ('train2017', 'val2017')
    ]
    assert len(set(first)) == 4


def test_the_same_again_does_nothing(tmp_path, capsys):
    out = tmp_path / 'out'
    arguments = [str(out), '--train', '2', '--val', '1', '--seed', '5', '--size', '32']
    shapes.main(arguments)
    before = {path: path.stat().st_mtime_ns for path in [out, *out.rglob('*')]}
    capsys.readouterr()
    shapes.main(arguments)
    assert 'already' in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in [out, *out.rglob('*')]} == before


def test_other_arguments_are_refused(tmp_path):
    out = tmp_path / 'out'
    shapes.generate(out, train=2, val=1, size=32)
    before = contents(out)
    with pytest.raises(SystemExit, match='--train 2 .*--train 3 .*delete it or choose another') as failure:
        shapes.main([str(out), '--train', '3', '--val', '1', '--size', '32'])
    assert '\n' not in failure.value.code
    assert contents(out) == before


@pytest.mark.parametrize('marker', [None, '{}', '[1]', 'no json', '{"generator": "another"}'])
def test_a_foreign_folder_is_refused(tmp_path, marker):
    out = tmp_path / 'mine'
    (out / 'train2017').mkdir(parents=True)
    (out / 'train2017' / 'holiday.jpg').write_bytes(b'precious')
    if marker is not None:
        (out / shapes.MARKER).write_text(marker)
    before = contents(out)
    with pytest.raises(SystemExit, match='mine exists and is not a shapes data set') as failure:
        shapes.main([str(out)])
    assert '\n' not in failure.value.code
    assert contents(out) == before
    assert list(tmp_path.iterdir()) == [out]


def test_files_and_broken_links_are_refused(tmp_path):
    (tmp_path / 'file').write_text('precious')
    (tmp_path / 'link').symlink_to(tmp_path / 'nowhere')
    for name in ('file', 'link'):
        with pytest.raises(FileExistsError, match=f'{name} exists'):
            shapes.generate(tmp_path / name)
    assert (tmp_path / 'file').read_text() == 'precious'
    with pytest.raises(SystemExit, match='file'):
        shapes.main([str(tmp_path / 'file' / 'below')])


@pytest.mark.parametrize(
    ('name', 'value'), [('train', 0), ('val', -3), ('seed', -1), ('size', 31), ('size', 100_000)]
)
def test_arguments_out_of_range(tmp_path, name, value):
    with pytest.raises(SystemExit, match=f'{name} must .*{value}'):
        shapes.main([str(tmp_path / 'out'), f'--{name}', str(value)])
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_full_disk_leaves_nothing(tmp_path):
    """A limit on the size of files lets the images pass and stops the annotation file."""
    limit = 20_000
    command = [sys.executable, '-m', 'mmdet_cbn.data.shapes', 'out', '--train', '60', '--size', '32']
    paths = [str(Path(shapes.__file__).parents[2]), os.environ.get('PYTHONPATH', '')]
    result = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': os.pathsep.join(paths), 'PYTHONDONTWRITEBYTECODE': '1'},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].endswith('File too large')
    assert 'Traceback' not in result.stderr
    assert not list(tmp_path.iterdir())
