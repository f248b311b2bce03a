"""Whether the images of an annotation file are there, and as large as it says."""

import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from .errors import LaunchError
from .wording import few, label

_OPENED = 200  # of which the sizes are compared before a run
_ORIENTATION = 0x0112  # EXIF's; OpenCV turns an image by it, from 5 on by 90 degrees


def check_files(images: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Compare the names of images with lists of the files in a folder; the files are not opened.

    Raises:
        LaunchError: Some are not there.
    """
    names = [image['file_name'] for image in images]

    @cache
    def files(parent: Path) -> set[str]:
        with os.scandir(parent) as entries:
            return {entry.name for entry in entries if entry.is_file()}

    missing = []
    for name in names:
        path = folder / name
        if not os.path.isdir(path.parent) or path.name not in files(path.parent):
            missing.append(name)
    if missing:
        what = 'the first is a folder' if os.path.isdir(folder / missing[0]) else 'unpack the images again'
        raise LaunchError(
            f'{len(missing)} of its {len(names)} images are not in {folder}: {few(missing)}; {what}, or take '
            'them out of the file'
        )


def compare_sizes(images: Sequence[Mapping[str, Any]], folder: Path, all_of_them: bool = False) -> list[str]:
    """Compare the sizes in the file with those of the images, and look for turned ones.

    Headers are read, no pixels: 0.05 ms an image where the disk is not waited for. A bar shows how far it is.

    Args:
        images: Entries of an annotation file.
        folder: Of the images.
        all_of_them: Whether to open every image, or some two hundred that are evenly spread.

    Returns:
        What a user should know, a text each.
    """
    other, turned = [], []
    chosen = images if all_of_them else images[:: max(1, len(images) // _OPENED)]
    for image in tqdm(chosen, 'sizes of images', leave=False, disable=None, delay=1):
        try:
            with Image.open(folder / image['file_name']) as opened:
                size, orientation = opened.size, opened.getexif().get(_ORIENTATION, 1)
        except Exception:  # damaged ones end training with their names
            continue
        loaded = size[::-1] if orientation in (5, 6, 7, 8) else size
        name, told = label(image['file_name']), (image['width'], image['height'])
        if loaded != told:
            turned_by = f', turned by its EXIF orientation {orientation},' if loaded != size else ''
            other.append(
                f'{name}{turned_by} has {loaded[0]} x {loaded[1]} and not {told[0]} x {told[1]} pixels'
            )
        elif orientation in range(2, 9):
            turned.append(f'{name} (orientation {orientation})')
    of_all = f'of {len(chosen)} images that were opened'
    if len(chosen) < len(images):
        of_all += f' (--check opens all {len(images)})'
    notes = []
    if other:
        notes.append(
            f'{len(other)} {of_all} have another size, e.g. {other[0]}; boxes and masks must be those of the '
            'images as they are loaded'
        )
    if turned:
        notes.append(
            f'{len(turned)} {of_all} are turned by their EXIF orientation when they are loaded, e.g. '
            f'{turned[0]}; boxes and masks must be those of the turned images'
        )
    return notes
