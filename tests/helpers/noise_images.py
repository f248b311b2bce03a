"""A data set in COCO's format that takes no time to write or to read."""

import json
from pathlib import Path

import mmcv
import numpy as np


def write_images(root: Path, number: int) -> None:
    """Write images of noise, a bright rectangle in each, in COCO's format."""
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for index in range(number):
        picture = rng.integers(0, 128, (64, 64, 3), dtype=np.uint8)
        x, y, w, h = (*rng.integers(2, 20, 2).tolist(), *rng.integers(20, 40, 2).tolist())
        picture[y : y + h, x : x + w] += 127
        mmcv.imwrite(picture, str(root / f'{index}.png'))
        images.append({'id': index, 'file_name': f'{index}.png', 'width': 64, 'height': 64})
        box = {'bbox': [x, y, w, h], 'area': w * h, 'iscrowd': 0, 'category_id': 1 + index % 2}
        annotations.append({'id': index + 1, 'image_id': index, **box})
    content = {'images': images, 'annotations': annotations}
    content['categories'] = [{'id': 1, 'name': 'first'}, {'id': 2, 'name': 'second'}]
    (root / 'annotations.json').write_text(json.dumps(content))
