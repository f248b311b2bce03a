"""A generated data set in COCO's format, for trying out a detector in minutes.

Geometric shapes with textures lie on textured backgrounds and cover one another. Size, angle,
colour and texture are drawn independently of the class, so a detector has to learn the shape.

    python -m mmdet_cbn.data.shapes data/shapes --train 1000 --val 100 --seed 0 --size 128

writes ``train2017/``, ``val2017/`` and ``annotations/instances_{train,val}2017.json``, and
``shapes.json``, which holds these arguments and marks the folder as the generator's own.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as mask_utils
from shapely.geometry import MultiPolygon, Polygon, box
from shapely.geometry.base import BaseGeometry
from tqdm import tqdm

CLASSES = ('circle', 'square', 'triangle', 'star')

GENERATOR = 'mmdet_cbn.data.shapes'
MARKER = 'shapes.json'
SPLITS = ('train', 'val')

# Lengths are shares of the image side, areas shares of the whole object.
_DIAMETERS = (0.28, 0.6)
_MAX_INSTANCES = 4
_MIN_VISIBLE = 0.5
_MIN_PART = 0.05
_TRIES = 20
_CROWD_SHARE = 0.12
_TILT = np.pi / 12  # at any angle, squares and circles of 40 pixels take long to tell apart
_MAX_SIZE = 2048
_MIN_SIZE = 32


@dataclass(frozen=True)
class _Object:
    """An instance or a crowd: its class, its whole outline, and what is left of that to be seen."""

    category: int
    outline: BaseGeometry
    visible: BaseGeometry
    crowd: bool = False


def _corners(count: int, first: float = -np.pi / 2, inner_radius: float | None = None) -> np.ndarray:
    """Corners of a regular polygon of circumradius 1, or of a star whose inner corners lie at a radius.

    The first corner is at the angle ``first``: by default at the top, since y points down.
    """
    radii = np.ones(count) if inner_radius is None else np.tile([1, inner_radius], count)
    angles = first + np.linspace(0, 2 * np.pi, len(radii), endpoint=False)
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


_CORNERS = {
    'circle': _corners(40),
    'square': _corners(4, first=np.pi / 4),
    'triangle': _corners(3),
    'star': _corners(5, inner_radius=0.42),
}


def _outline(rng: np.random.Generator, category: int, centre: np.ndarray, diameter: float) -> Polygon:
    angle = rng.uniform(-_TILT, _TILT)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return Polygon(_CORNERS[CLASSES[category]] @ turn * diameter / 2 + centre)


def _instance(rng: np.random.Generator, size: int) -> _Object:
    category = int(rng.integers(len(CLASSES)))
    diameter = size * rng.uniform(*_DIAMETERS)
    margin = 0.42 * diameter
    outline = _outline(rng, category, rng.uniform(margin, size - margin, 2), diameter)
    return _Object(category, outline, outline.intersection(box(0, 0, size, size)))


def _crowd(rng: np.random.Generator, size: int) -> _Object:
    """Small shapes of one class on a grid, too narrow for one to touch the next."""
    category = int(rng.integers(len(CLASSES)))
    cell = 0.11 * size
    grid = rng.integers(3, 6, 2)
    corner = rng.uniform(0, size - cell * grid)
    outline = MultiPolygon(
        [
            _outline(rng, category, corner + cell * (index + rng.uniform(0.46, 0.54, 2)), 0.9 * cell)
            for index in np.ndindex(*grid)
        ]
    )
    return _Object(category, outline, outline, crowd=True)


def _parts(geometry: BaseGeometry) -> list[Polygon]:
    return list(getattr(geometry, 'geoms', [geometry]))


def _can_stand(item: _Object) -> bool:
    """Whether enough is visible, without crumbs, and without the holes that COCO's polygons cannot have."""
    whole = item.outline.area
    return item.visible.area >= _MIN_VISIBLE * whole and (
        item.crowd
        or all(part.area >= _MIN_PART * whole and not part.interiors for part in _parts(item.visible))
    )


def _scene(rng: np.random.Generator, size: int) -> list[_Object]:
    """Lay objects on top of one another; what would hide too much of those below is tried elsewhere."""
    scene: list[_Object] = []
    crowds, instances = int(rng.random() < _CROWD_SHARE), int(rng.integers(1, _MAX_INSTANCES + 1))
    for make in [_crowd] * crowds + [_instance] * instances:
        for _ in range(_TRIES):
            new = make(rng, size)
            below = [replace(item, visible=item.visible.difference(new.outline)) for item in scene]
            if all(map(_can_stand, [*below, new])):
                scene = [*below, new]
                break
    return scene


def _polygons(geometry: BaseGeometry) -> list[list[float]]:
    """COCO's polygons: a list x1, y1, x2, y2, ... of pixels for each part."""
    rings = [np.asarray(part.exterior.coords)[:-1] for part in _parts(geometry)]
    return [ring.round(2).ravel().tolist() for ring in rings]


def _rle(geometry: BaseGeometry, size: int) -> dict[str, Any]:
    return mask_utils.merge(mask_utils.frPyObjects(_polygons(geometry), size, size))


def _pattern(rng: np.random.Generator, size: int) -> np.ndarray:
    """Clouds, a gradient, stripes, checks or dots: (size, size), float32, from 0 to 1."""
    y, x = np.mgrid[:size, :size] / size
    angle = rng.uniform(0, 2 * np.pi)
    along = x * np.cos(angle) + y * np.sin(angle)
    across = y * np.cos(angle) - x * np.sin(angle)
    frequency = 2 * np.pi * rng.uniform(4, 8)
    kind = rng.integers(5)
    if kind == 0:
        pattern = sum(
            cv2.resize(rng.random((cells, cells)) / cells, (size, size), interpolation=cv2.INTER_CUBIC)
            for cells in (4, 8, 16)
        )
    elif kind == 1:
        pattern = along
    elif kind == 2:
        pattern = np.tanh(3 * np.sin(frequency * along))
    elif kind == 3:
        pattern = np.tanh(6 * np.sin(frequency * along / 2) * np.sin(frequency * across / 2))
    else:
        pattern = np.tanh(5 * np.sin(frequency * along) * np.sin(frequency * across) - 2)
    return cv2.normalize(pattern.astype(np.float32), None, 0, 1, cv2.NORM_MINMAX)


def _texture(rng: np.random.Generator, size: int, *colours: tuple[float, float, float]) -> np.ndarray:
    """A grainy pattern between two colours (hue in turns, saturation, value): (size, size, 3), uint8."""
    hsv = np.array([[[360 * (hue % 1), saturation, value] for hue, saturation, value in colours]], np.float32)
    first, second = 255 * cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)[0]
    texture = first + _pattern(rng, size)[..., None] * (second - first) + rng.normal(0, 5, (size, size, 1))
    return texture.clip(0, 255).astype(np.uint8)


def _background(rng: np.random.Generator, size: int) -> np.ndarray:
    """Pale or dark, but never as colourful as the objects."""
    hue, saturation, value = rng.uniform((0, 0.05, 0.3), (1, 0.3, 0.95))
    return _texture(rng, size, (hue, saturation, value), (hue + 0.1, saturation, value - 0.15))


def _paint(rng: np.random.Generator, image: np.ndarray, scene: list[_Object]) -> None:
    """Paint the objects in their order, each with a dark rim that sets it off from its like."""
    size = len(image)
    frame = box(0, 0, size, size)
    rim = np.ones((3, 3), np.uint8)
    hue = rng.random()
    for item in scene:
        hue += 0.382  # the golden section keeps the hues of an image apart
        saturation, value = rng.uniform((0.65, 0.8), (0.95, 1))
        texture = _texture(rng, size, (hue, saturation, value), (hue + 0.06, saturation - 0.25, value * 0.75))
        mask = mask_utils.decode(_rle(item.outline.intersection(frame), size))
        inner = cv2.erode(mask, rim, iterations=round(size / 128), borderValue=1)
        texture[inner == 0] //= 3
        image[mask == 1] = texture[mask == 1]


def _annotation(item: _Object, size: int) -> dict[str, Any]:
    rle = _rle(item.visible, size)
    as_text = {'size': rle['size'], 'counts': rle['counts'].decode()}
    return {
        'category_id': item.category + 1,
        'iscrowd': int(item.crowd),
        'segmentation': as_text if item.crowd else _polygons(item.visible),
        'area': float(mask_utils.area(rle)),
        'bbox': mask_utils.toBbox(rle).tolist(),
    }


def _draw(seed: int, split: str, index: int, size: int) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Draw one image, (size, size, 3) of uint8 in BGR, and describe what is visible in it."""
    rng = np.random.default_rng((seed, SPLITS.index(split), index))
    image = _background(rng, size)
    scene = _scene(rng, size)
    _paint(rng, image, scene)
    return image, [_annotation(item, size) for item in scene]


def _write_split(out: Path, split: str, count: int, seed: int, size: int) -> None:
    folder = out / f'{split}2017'
    folder.mkdir(parents=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in tqdm(range(count), desc=folder.name, unit='image'):
        image, described = _draw(seed, split, index, size)
        entry: dict[str, Any] = {
            'id': index + 1,
            'file_name': f'{index + 1:012}.jpg',
            'width': size,
            'height': size,
        }
        jpeg = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
        (folder / entry['file_name']).write_bytes(jpeg)
        images.append(entry)
        for annotation in described:
            annotations.append({'id': len(annotations) + 1, 'image_id': entry['id'], **annotation})
    coco = {
        'info': {'description': f'Shapes, generated by {GENERATOR}', 'version': '1.0'},
        'licenses': [],
        'categories': [
            {'id': i, 'name': name, 'supercategory': 'shape'} for i, name in enumerate(CLASSES, 1)
        ],
        'images': images,
        'annotations': annotations,
    }
    file = out / 'annotations' / f'instances_{folder.name}.json'
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(coco))


def _is_there(out: Path, parameters: dict[str, Any]) -> bool:
    """Whether this very data set lies in ``out``; anything else there is an error."""
    if not os.path.lexists(out):
        return False
    try:
        found = json.loads((out / MARKER).read_text())
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict) or found.get('generator') != GENERATOR:
        raise FileExistsError(f'{out} exists and is not a shapes data set; choose another folder')
    if found != parameters:
        raise FileExistsError(
            f'{out} holds shapes made with {_as_options(found)}, not with {_as_options(parameters)}; '
            'delete it or choose another folder'
        )
    return True


def _as_options(parameters: dict[str, Any]) -> str:
    return ' '.join(f'--{name} {value}' for name, value in parameters.items() if name != 'generator')


def generate(out: str | Path, train: int = 1000, val: int = 100, seed: int = 0, size: int = 128) -> bool:
    """Write a shapes data set, whole or not at all.

    An image depends on the seed, its split and its number alone: a larger data set begins with the
    images of a smaller one. Equal arguments give equal bytes, as long as the versions of NumPy,
    OpenCV, Shapely and pycocotools are the same.

    Annotations describe what is visible. Of every instance that is most of it, without holes: its
    mask is given as polygons. Crowds (``iscrowd`` 1, many small shapes of one class) have an RLE.

    Args:
        out: Folder to make; its parents are made as well.
        train: Number of training images, at least 1.
        val: Number of validation images, at least 1.
        seed: What the data set is drawn from, at least 0.
        size: Height and width of the images in pixels, 32 to 2048.

    Returns:
        Whether the data set was made now; False if it was there already, with the same arguments.

    Raises:
        ValueError: An argument is out of its range.
        FileExistsError: ``out`` is there and is something else, or made with other arguments. It
            is left as it is.
        OSError: ``out`` cannot be written; nothing of it is left.
    """
    for name, value, least in (
        ('train', train, 1),
        ('val', val, 1),
        ('seed', seed, 0),
        ('size', size, _MIN_SIZE),
    ):
        if value < least:
            raise ValueError(f'{name} must be at least {least}, but is {value}')
    if size > _MAX_SIZE:
        raise ValueError(f'size must be at most {_MAX_SIZE} pixels, but is {size}')
    out = Path(out)
    parameters = {'generator': GENERATOR, 'train': train, 'val': val, 'seed': seed, 'size': size}
    if _is_there(out, parameters):
        return False
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f'.{out.name}.', dir=out.parent) as staging:
        whole = Path(staging, out.name)
        for split, count in zip(SPLITS, (train, val), strict=True):
            _write_split(whole, split, count, seed, size)
        (whole / MARKER).write_text(json.dumps(parameters))
        whole.rename(out)
    return True


def main(argv: list[str] | None = None) -> None:
    """Run ``generate`` from the command line.

    Args:
        argv: Arguments without the program's name; those of the process if None.

    Raises:
        SystemExit: With one line that says what is wrong, if something is.
    """
    parser = argparse.ArgumentParser(
        prog=f'python -m {GENERATOR}',
        description='Draw a small data set in COCO format.',
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f'example:\n  python -m {GENERATOR} data/shapes --train 500 --val 60',
    )
    parser.add_argument('out', type=Path, help='folder to make')
    parser.add_argument('--train', type=int, default=1000, help='number of training images (%(default)s)')
    parser.add_argument('--val', type=int, default=100, help='number of validation images (%(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='what the images are drawn from (%(default)s)')
    parser.add_argument('--size', type=int, default=128, help='height and width in pixels (%(default)s)')
    arguments = parser.parse_args(argv)
    try:
        made = generate(**vars(arguments))
    except (OSError, ValueError) as error:
        sys.exit(f'{parser.prog}: {error}')
    print(f'{arguments.out}: {"done" if made else "is there already, nothing to do"}')


if __name__ == '__main__':
    main()
