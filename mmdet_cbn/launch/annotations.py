"""Checks of COCO annotation files and of the image files that they name, before training."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from .errors import LaunchError, warn_user

# MMDetection leaves out boxes without size or outside of their image. COCO has a few, so few are harmless;
# many mean that the boxes are written in another way.
_HARMLESS_SHARE = 0.01
_ROUNDING = 2.0  # pixels

_KEYS = {
    'images': ('id', 'file_name', 'width', 'height'),
    'categories': ('id', 'name'),
    'annotations': ('id', 'image_id', 'category_id', 'bbox', 'area'),
}


def check_annotations(
    path: str, folder: str | None, classes: Sequence[str] | None, masks: bool, annotated: bool
) -> None:
    """Check that an annotation file can be trained or evaluated with.

    What MMDetection leaves out on its own and a sound data set has a little of (images without
    annotations, crowds, a few boxes without size) is no error; counts of it are printed.

    Args:
        path: A file in COCO's format.
        folder: Of the images; None leaves them unchecked. Their names are compared with a list of the
            folder's files, the files are not opened.
        classes: The classes of the data set; None for any.
        masks: Whether every annotation must have a segmentation.
        annotated: Whether there must be annotations.

    Raises:
        LaunchError: The file is not COCO's, contradicts itself, or lacks images or classes.
    """
    try:
        coco = _read(path, annotated)
        images = {image['id']: image for image in coco['images']}
        annotations = coco.get('annotations', [])
        _check_unique(coco['images'], 'images')
        _check_unique(annotations, 'annotations')
        notes: list[str] = []
        _check_categories(coco['categories'], annotations, classes, notes)
        usable = _check_boxes(annotations, images, notes)
        if masks:
            _check_masks(usable)
        if annotated and not usable:
            raise LaunchError('no annotation belongs to an image: check image_id of the annotations')
        if folder:
            _check_files(images.values(), Path(folder))
    except LaunchError as error:
        raise LaunchError(f'{path}: {error}') from None
    except TypeError as error:
        raise LaunchError(
            f'{path}: a value in it has the wrong type ({error}); widths, heights and areas must be numbers, '
            'ids numbers or texts'
        ) from None
    for note in notes:
        warn_user(f'{path}: {note}')


def _read(path: str, annotated: bool) -> dict[str, Any]:
    try:
        content = json.loads(Path(path).read_bytes())
    except (ValueError, RecursionError) as error:
        raise LaunchError(
            f'this is not a whole JSON file ({error}); download or generate the annotations again'
        ) from None
    remedy = 'give the annotation file of a detection data set in COCO format'
    if not isinstance(content, dict):
        raise LaunchError(f'this holds a {type(content).__name__}, not a dictionary; {remedy}')
    sections = [name for name in _KEYS if annotated or name != 'annotations' or name in content]
    for section in sections:
        entries = content.get(section)
        if not isinstance(entries, list):
            raise LaunchError(f"there is no list '{section}' in it; {remedy}")
        if not entries and section != 'annotations':
            raise LaunchError(f"its list '{section}' is empty; {remedy}")
        for number, entry in enumerate(entries):
            lacking = [key for key in _KEYS[section] if not isinstance(entry, dict) or key not in entry]
            if lacking:
                raise LaunchError(f'{section}[{number}] has no {", ".join(lacking)}; {remedy}')
    return content


def _check_unique(entries: Iterable[Mapping[str, Any]], section: str) -> None:
    counts = Counter(entry['id'] for entry in entries)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise LaunchError(
            f"{len(twice)} ids of '{section}' are not unique, e.g. {twice[0]}; number them anew"
        )


def _check_categories(
    categories: Sequence[Mapping[str, Any]],
    annotations: Iterable[Mapping[str, Any]],
    classes: Sequence[str] | None,
    notes: list[str],
) -> None:
    known = {category['id'] for category in categories}
    wrong = [entry for entry in annotations if entry['category_id'] not in known]
    if wrong:
        raise LaunchError(
            f'{len(wrong)} annotations have a category_id that is not in its categories, e.g. annotation '
            f'{wrong[0]["id"]} has {wrong[0]["category_id"]}; correct them, or add the category'
        )
    if classes is None:
        return
    names = [category['name'] for category in categories]
    lacking = [name for name in classes if name not in names]
    remedy = f'set metainfo=dict(classes=...) of the dataset to names of the file ({_few(names)})'
    if len(lacking) == len(classes):
        raise LaunchError(
            f'none of the {len(classes)} classes ({_few(classes)}) is in its categories; {remedy}'
        )
    if lacking:
        notes.append(f'{len(lacking)} of {len(classes)} classes are not in its categories: {_few(lacking)}')


def _check_boxes(
    annotations: Sequence[Mapping[str, Any]], images: Mapping[Any, Mapping[str, Any]], notes: list[str]
) -> list[Mapping[str, Any]]:
    """Return the annotations that MMDetection trains with."""
    usable, outside, empty, beyond = [], [], [], []
    lost = 0
    for entry in annotations:
        image = images.get(entry['image_id'])
        if image is None:
            lost += 1
            continue
        box = entry['bbox']
        if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
            raise LaunchError(
                f'annotation {entry["id"]} has bbox={box!r}; a box is '
                '[x, y, width, height], four numbers in pixels'
            )
        if entry.get('ignore'):
            continue
        x, y, width, height = box
        if width < 1 or height < 1 or entry['area'] <= 0:
            empty.append(entry)
        elif x + width <= 0 or y + height <= 0 or x >= image['width'] or y >= image['height']:
            outside.append(entry)
        else:
            usable.append(entry)
            if (
                min(x, y) < -_ROUNDING
                or x + width > image['width'] + _ROUNDING
                or y + height > image['height'] + _ROUNDING
            ):
                beyond.append(entry)

    limit = _HARMLESS_SHARE * len(annotations)
    for wrong, what in (
        (empty, 'are smaller than a pixel or have area 0'),
        (outside, 'lie outside of their image'),
    ):
        if wrong:
            first = wrong[0]
            text = (
                f'{len(wrong)} of {len(annotations)} boxes {what}, '
                f'e.g. annotation {first["id"]}: {first["bbox"]}'
            )
            if len(wrong) > limit:
                raise LaunchError(
                    f'{text}; correct or delete them: a box is [x, y, width, height] in pixels, '
                    'x and y of its upper left corner'
                )
            notes.append(f'{text}; MMDetection leaves them out')
    if len(beyond) > limit:
        notes.append(
            f'{len(beyond)} of {len(annotations)} boxes reach beyond their image, e.g. annotation '
            f'{beyond[0]["id"]}: {beyond[0]["bbox"]}; a box is [x, y, width, height]'
        )
    if lost and usable:
        notes.append(f'{lost} of {len(annotations)} annotations belong to no image of the file')
    return usable


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_masks(annotations: Iterable[Mapping[str, Any]]) -> None:
    without = [entry['id'] for entry in annotations if not entry.get('segmentation')]
    if without:
        raise LaunchError(
            f'{len(without)} annotations have no segmentation, e.g. annotation {without[0]}, and the '
            'pipeline loads masks (with_mask=True); add them, or train a detector of boxes'
        )


def _check_files(images: Iterable[Mapping[str, Any]], folder: Path) -> None:
    names = [image['file_name'] for image in images]
    there = cache(lambda parent: {path.name for path in parent.iterdir()} if parent.is_dir() else set())
    missing = [name for name in names if (path := folder / name).name not in there(path.parent)]
    if missing:
        raise LaunchError(
            f'{len(missing)} of its {len(names)} images are not in {folder}: {_few(missing)}; unpack '
            'the images again, or take them out of the file'
        )


def _few(names: Sequence[str], shown: int = 3) -> str:
    return ', '.join(map(str, names[:shown])) + (', ...' if len(names) > shown else '')
