"""Checks of COCO annotation files and of the image files that they name, before training."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import LaunchError, warn_user
from .images import check_files, compare_sizes
from .masks import can_be_evaluated, has_area, what_is_wrong
from .numbers import is_number, is_whole
from .wording import few, label, shorten

# MMDetection leaves out boxes without size or outside of their image. COCO has a few, so few are harmless;
# many mean that the boxes are written in another way.
_HARMLESS_SHARE = 0.01
_ROUNDING = 2.0  # pixels


def _is_id(value: object) -> bool:
    return is_number(value) or isinstance(value, str)


def _is_size(value: object) -> bool:
    return is_number(value) and value >= 1


def _is_text(value: object) -> bool:
    try:
        return isinstance(value, str) and value != '' and b'\0' not in value.encode()
    except UnicodeEncodeError:  # half a pair of surrogates
        return False


def _is_anything(value: object) -> bool:
    return True


_KEYS: dict[str, dict[str, Callable[[object], bool]]] = {
    'images': {'id': _is_id, 'file_name': _is_text, 'width': _is_size, 'height': _is_size},
    'categories': {'id': _is_id, 'name': _is_text},
    'annotations': {
        'id': _is_id,
        'image_id': _is_id,
        'category_id': _is_id,
        'bbox': _is_anything,  # said with more words
        'area': is_number,
    },
}


def check_annotations(
    path: str,
    folder: str | None,
    classes: Sequence[str] | None,
    masks: bool,
    annotated: bool,
    evaluated: bool = False,
    every_image: bool = False,
) -> None:
    """Check that an annotation file can be trained or evaluated with.

    What MMDetection leaves out on its own and a sound data set has a little of (images without
    annotations, crowds, a few boxes without size) is no error; counts of it are printed.

    Args:
        path: A file in COCO's format.
        folder: Of the images; None leaves them unchecked. Their names are compared with a list of the
            folder's files; sizes are compared as well.
        classes: The classes of the data set; None for any.
        masks: Whether every annotation must have a segmentation.
        annotated: Whether there must be annotations.
        evaluated: Whether COCO's evaluation reads the file, which leaves nothing out.
        every_image: Whether to compare the size of every image, or of some two hundred.

    Raises:
        LaunchError: The file is not COCO's, contradicts itself, or lacks images or classes.
    """
    notes: list[str] = []
    try:
        coco = _read(path, annotated)
        images = {image['id']: image for image in coco['images']}
        annotations = coco.get('annotations', [])
        for section in ('images', 'annotations', 'categories'):
            _check_unique(coco.get(section, []), section)
        chosen = _check_categories(coco['categories'], annotations, classes, notes)
        annotations = [entry for entry in annotations if entry['category_id'] in chosen]
        if coco.get('annotations') and annotated and not annotations:
            raise LaunchError(
                f'none of its {len(coco["annotations"])} annotations is of the classes {few(classes or [])}: '
                'check their category_id'
            )
        usable = _check_boxes(annotations, images, notes)
        if annotated and not usable:
            raise LaunchError('no annotation belongs to an image: check image_id of the annotations')
        if evaluated:
            _check_evaluation(images, [entry for entry in annotations if entry['image_id'] in images], masks)
        if masks:
            usable = _check_masks(usable, images, notes)
        if annotated and all(entry.get('iscrowd') for entry in usable):
            raise LaunchError(
                f'nothing is left to learn or find: all {len(usable)} annotations of its classes are crowds; '
                'set iscrowd to 0 where an annotation is a single object'
            )
        if folder:
            check_files(coco['images'], Path(folder))
            notes += compare_sizes(coco['images'], Path(folder), every_image)
    except LaunchError as error:
        raise LaunchError(f'{path}: {error}') from None
    for note in notes:
        warn_user(f'{path}: {note}')


def _read(path: str, annotated: bool) -> dict[str, Any]:
    try:
        content = json.loads(Path(path).read_bytes().decode())  # as pycocotools does: UTF-8 alone
    except OSError as error:  # of a damaged disk it has no name
        raise LaunchError(f'it cannot be read ({error.strerror}); give another path or copy') from None
    except (ValueError, RecursionError) as error:
        raise LaunchError(
            f'this is not a whole JSON file in UTF-8, without a mark at its start ({error}); save it so, or '
            'download or generate the annotations again'
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
            for key, is_right in _KEYS[section].items():
                if not is_right(entry[key]):
                    raise LaunchError(
                        f'a value in it has the wrong type ({section}[{number}] has {key}='
                        f'{shorten(entry[key])}); widths, heights and areas must be numbers, ids '
                        'numbers or texts, names texts'
                    )
    return content


def _check_unique(entries: Sequence[Mapping[str, Any]], section: str) -> None:
    kinds = {isinstance(entry['id'], str) for entry in entries}
    if len(kinds) > 1:
        raise LaunchError(f"some ids of '{section}' are numbers and some are texts; number them anew")
    counts = Counter(entry['id'] for entry in entries)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise LaunchError(
            f"{len(twice)} ids of '{section}' are not unique, e.g. {label(twice[0])}; number them anew"
        )


def _check_categories(
    categories: Sequence[Mapping[str, Any]],
    annotations: Iterable[Mapping[str, Any]],
    classes: Sequence[str] | None,
    notes: list[str],
) -> set[Any]:
    """Return the ids of the categories that belong to a class."""
    known = {category['id'] for category in categories}
    wrong = [entry for entry in annotations if entry['category_id'] not in known]
    if wrong:
        raise LaunchError(
            f'{len(wrong)} annotations have a category_id that is not in its categories, e.g. annotation '
            f'{label(wrong[0]["id"])} has {label(wrong[0]["category_id"])}; correct them, or add the category'
        )
    if classes is None:
        return known
    names = [category['name'] for category in categories]
    lacking = [name for name in classes if name not in names]
    remedy = f'set metainfo=dict(classes=...) of the dataset to names of the file ({few(names)})'
    if len(lacking) == len(classes):
        raise LaunchError(
            f'none of the {len(classes)} classes ({few(classes)}) is in its categories; {remedy}'
        )
    if lacking:
        notes.append(f'{len(lacking)} of {len(classes)} classes are not in its categories: {few(lacking)}')
    # MMDetection numbers the classes as the file does.
    found = [name for name in names if name in classes]
    twice = [name for name, count in Counter(found).items() if count > 1]
    if twice:
        raise LaunchError(
            f'{len(twice)} classes stand for several of its categories, e.g. {label(twice[0])}; give each a '
            'name of its own'
        )
    if found != [name for name in classes if name in found]:
        notes.append(
            f'its categories stand in another order ({few(found)}) than the classes of the config '
            f'({few(classes)}), and MMDetection numbers them as the file does: files of one run must have '
            'the same order'
        )
    return {category['id'] for category in categories if category['name'] in classes}


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
        if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
            raise LaunchError(
                f'annotation {label(entry["id"])} has bbox={shorten(box)}; a box is '
                '[x, y, width, height], four numbers in pixels'
            )
        if entry.get('iscrowd', 0) not in (0, 1):
            raise LaunchError(
                f'annotation {label(entry["id"])} has iscrowd={shorten(entry["iscrowd"])}; it must be 0 or 1'
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
                f'e.g. annotation {label(first["id"])}: {shorten(first["bbox"])}'
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
            f'{label(beyond[0]["id"])}: {shorten(beyond[0]["bbox"])}; a box is [x, y, width, height]'
        )
    if lost and usable:
        notes.append(f'{lost} of {len(annotations)} annotations belong to no image of the file')
    return usable


def _check_masks(
    annotations: Sequence[Mapping[str, Any]], images: Mapping[Any, Mapping[str, Any]], notes: list[str]
) -> list[Mapping[str, Any]]:
    """Return the annotations whose masks MMDetection trains with."""
    without = [entry['id'] for entry in annotations if not entry.get('segmentation')]
    if without:
        raise LaunchError(
            f'{len(without)} annotations have no segmentation, e.g. annotation {label(without[0])}, and the '
            'pipeline loads masks (with_mask=True); add them, or train a detector of boxes'
        )
    for entry in annotations:
        _check_mask(entry, images)
    usable = [entry for entry in annotations if has_area(entry['segmentation'])]
    if len(usable) < len(annotations):
        first = next(entry for entry in annotations if not has_area(entry['segmentation']))
        text = (
            f'{len(annotations) - len(usable)} of {len(annotations)} masks have no polygon of three points '
            f'or more, e.g. annotation {label(first["id"])}: {shorten(first["segmentation"])}'
        )
        if len(annotations) - len(usable) > _HARMLESS_SHARE * len(annotations):
            raise LaunchError(f'{text}; correct or delete them: a polygon is [x1, y1, x2, y2, x3, y3, ...]')
        notes.append(f'{text}; MMDetection leaves them out')
    return usable


def _check_mask(entry: Mapping[str, Any], images: Mapping[Any, Mapping[str, Any]]) -> None:
    wrong = what_is_wrong(entry['segmentation'], images[entry['image_id']])
    if wrong:
        raise LaunchError(
            f'the segmentation of annotation {label(entry["id"])} {wrong}; it must be a list of polygons '
            '[[x1, y1, x2, y2, x3, y3, ...], ...], or dict(size=[height, width], counts=run lengths)'
        )


def _check_evaluation(
    images: Mapping[Any, Mapping[str, Any]], annotations: Sequence[Mapping[str, Any]], masks: bool
) -> None:
    """Check what COCO's evaluation reads of every annotation, of crowds and ignored ones as well."""
    for entry in annotations:
        if 'iscrowd' not in entry:
            raise LaunchError(
                f'annotation {label(entry["id"])} has no iscrowd, which evaluation needs; add iscrowd=0'
            )
        if not is_whole(entry['id']) or entry['id'] == 0:
            raise LaunchError(
                f'annotation {label(entry["id"])}: in evaluation ids must be whole numbers, and 0 is none; '
                'number the annotations from 1'
            )
        if not masks:
            continue
        image = images[entry['image_id']]
        if not is_whole(image['width']) or not is_whole(image['height']):
            raise LaunchError(
                f'image {label(image["id"])} has width={image["width"]} and height={image["height"]}; with '
                'masks they must be whole numbers'
            )
        if not entry.get('segmentation'):
            raise LaunchError(
                f'annotation {label(entry["id"])} has no segmentation, and masks are evaluated; add it'
            )
        _check_mask(entry, images)
        if not can_be_evaluated(entry['segmentation']):
            raise LaunchError(
                f'the segmentation of annotation {label(entry["id"])} begins with a polygon of two points '
                f'or fewer ({shorten(entry["segmentation"])}), and evaluation fails; correct or delete it'
            )
