"""Images of another size than the annotation file says, and turned ones, are told, as OpenCV loads them."""

from pathlib import Path

import pytest

pytest.importorskip('mmengine')

import cv2
from PIL import Image

from mmdet_cbn.launch.errors import LaunchError
from mmdet_cbn.launch.images import check_files, compare_sizes


def save(folder, name, size=(40, 20), orientation=1):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new('RGB', size).save(folder / name, exif=exif)
    return {'id': 1, 'file_name': name, 'width': size[0], 'height': size[1]}


def loaded(path):
    height, width = cv2.imread(str(path), cv2.IMREAD_COLOR).shape[:2]
    return width, height


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('swapped', [False, True])
def test_orientations(orientation, swapped, tmp_path):
    image = save(tmp_path, 'a.jpg', orientation=orientation)
    if swapped:
        image.update(width=20, height=40)
    notes = compare_sizes([image], tmp_path)
    if loaded(tmp_path / 'a.jpg') != (image['width'], image['height']):
        assert [note.partition(',')[0] for note in notes] == [
            '1 of 1 images that were opened have another size'
        ]
        assert ('EXIF orientation' in notes[0]) is (orientation > 4)
    elif orientation == 1:
        assert notes == []
    else:
        (note,) = notes
        assert (
            f'turned by their EXIF orientation when they are loaded, e.g. a.jpg (orientation {orientation})'
            in note
        )


def test_other_sizes_are_counted_and_shown(tmp_path):
    images = [save(tmp_path, f'{number}.png') for number in range(3)]
    assert compare_sizes(images, tmp_path) == []
    images[1].update(width=41)
    (note,) = compare_sizes(images, tmp_path)
    assert note.startswith(
        '1 of 3 images that were opened have another size, e.g. 1.png has 40 x 20 and not 41 x 20'
    )


def test_some_of_many_are_opened_or_all(tmp_path):
    images = [{**save(tmp_path, 'a.png'), 'width': 41}] * 2_000
    (note,) = compare_sizes(images, tmp_path)
    assert note.startswith('200 of 200 images that were opened (--check opens all 2000) have another size')
    (note,) = compare_sizes(images, tmp_path, all_of_them=True)
    assert note.startswith('2000 of 2000 images that were opened have another size')


def test_what_cannot_be_opened_is_left_to_the_run(tmp_path):
    (tmp_path / 'a.jpg').write_text('not found')
    assert compare_sizes([{'file_name': 'a.jpg', 'width': 1, 'height': 1}], tmp_path) == []


def test_names(tmp_path):
    save(tmp_path, 'a.png')
    (tmp_path / 'folder').mkdir()
    (tmp_path / 'link.png').symlink_to('a.png')
    (tmp_path / 'broken.png').symlink_to('nothing.png')
    check_files(
        [{'file_name': name} for name in ('a.png', 'link.png', str(tmp_path / 'a.png'))], Path(tmp_path)
    )
    for name in ('b.png', 'folder', 'broken.png', 'folder/a.png', 'x' * 300, 'x' * 300 + '/a.png', '..'):
        with pytest.raises(LaunchError, match='1 of its 1 images are not in'):
            check_files([{'file_name': name}], Path(tmp_path))
