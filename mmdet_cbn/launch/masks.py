"""Which masks of an annotation file MMDetection and COCO's evaluation can read."""

import math
import re
from collections.abc import Mapping
from typing import Any

from .numbers import is_number, is_whole
from .wording import shorten

# A run length is written in letters of 5 bits each; 'P' to 'o' say that it goes on in the next one. At the
# end of a text, or in one of wrong letters, they make pycocotools read beyond it.
_RUN_LENGTH = '[P-o]{0,6}[0-O]'
_FAR = 10  # image sizes; pycocotools draws polygons pixel by pixel, and NaN for ever


def what_is_wrong(mask: Any, image: Mapping[str, Any]) -> str | None:
    """Say why a mask cannot be decoded.

    Polygons of fewer than three points are not wrong here: see :func:`has_area`.

    Args:
        mask: ``segmentation`` of an annotation.
        image: ``width`` and ``height`` in pixels.

    Returns:
        What it is instead of a mask; None if it is one.
    """
    if isinstance(mask, list):
        return _wrong_polygons(mask, _FAR * max(image['width'], image['height']))
    if isinstance(mask, dict):
        return _wrong_run_lengths(mask, [image['height'], image['width']])
    return f'is a {type(mask).__name__}'


def has_area(mask: Any) -> bool:
    """Tell whether MMDetection trains with a mask that can be decoded; it leaves out what is no polygon."""
    return isinstance(mask, dict) or any(len(polygon) >= 6 and len(polygon) % 2 == 0 for polygon in mask)


def can_be_evaluated(mask: Any) -> bool:
    """Tell whether COCO's evaluation takes a mask; a first polygon of two points is a box to it."""
    return isinstance(mask, dict) or len(mask[0]) > 4


def _wrong_polygons(mask: list[Any], far: float) -> str | None:
    if all(map(is_number, mask)):
        return 'is a flat list of numbers'
    for polygon in mask:
        if not isinstance(polygon, list):
            return f'has a {type(polygon).__name__} in the place of a polygon'
        if _are_near(polygon, far):
            continue
        for value in polygon:
            if not is_number(value):
                return f'has the coordinate {shorten(value)}'
            if abs(value) > far:
                return f'has the coordinate {shorten(value)}, far outside of its image'
    return None


def _are_near(values: list[Any], far: float) -> bool:
    """Tell whether all are numbers up to ``far``; COCO has some 40 million, so not one by one."""
    if not {int, float}.issuperset(map(type, values)):
        return False
    inside = -far <= min(values, default=0) and max(values, default=0) <= far
    return inside and math.isfinite(sum(values))  # NaN is not seen by min and max


def _wrong_run_lengths(mask: Mapping[str, Any], size: list[int]) -> str | None:
    counts = mask.get('counts')
    if mask.get('size') != size:
        return f'has size={shorten(mask.get("size"))}, and its image {size} (height, width)'
    if isinstance(counts, str):
        if not re.fullmatch(f'({_RUN_LENGTH})+', counts):
            return 'has a text in counts that is no run lengths'
        counts = _decode(counts)
    if not isinstance(counts, list) or not all(map(is_whole, counts)) or min(counts, default=0) < 0:
        return 'has counts that are no run lengths'
    if sum(counts) != size[0] * size[1]:  # pycocotools takes the rest from where the memory was used before
        return f'has counts of {sum(counts)} pixels, and its image {size[0] * size[1]}'
    return None


def _decode(text: str) -> list[int]:
    """Read COCO's compressed run lengths: from the fourth on, differences to the one before the last."""
    lengths: list[int] = []
    for letters in re.findall(_RUN_LENGTH, text):
        values = [ord(letter) - 48 for letter in letters]
        length = sum((value & 31) << 5 * place for place, value in enumerate(values))
        if values[-1] & 16:
            length -= 1 << 5 * len(values)
        lengths.append(length + (lengths[-2] if len(lengths) > 2 else 0))
    return lengths
