"""Drawing the predictions that ``tools/test.py --out`` wrote."""

import math
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.visualization import DetLocalVisualizer
from mmengine.structures import InstanceData
from pycocotools import mask as mask_utils

_TILE = 320  # pixels of the longer side of an image on the sheet


def draw_sheet(
    predictions: str | Path,
    dataset_meta: Mapping[str, Any],
    path: str | Path,
    images: int = 12,
    columns: int = 4,
    score_threshold: float = 0.5,
) -> None:
    """Draw images with their predicted boxes and masks on one sheet.

    Args:
        predictions: The pickle file of ``tools/test.py --out``; to read it executes what is in it, so take
            none of others. The images that it names are read again.
        dataset_meta: ``classes`` and, if there is one, ``palette`` of the data set.
        path: The picture to write; its ending names the format, e.g. ``.png``.
        images: How many images to draw, evenly spaced over the file.
        columns: How many images stand side by side.
        score_threshold: Predictions of a lower score are left out.

    Raises:
        FileNotFoundError: An image cannot be read.
        OSError: The picture cannot be written.
        ValueError: The file holds no predictions.
    """
    samples = pickle.loads(Path(predictions).read_bytes())
    if not samples:
        raise ValueError(f'{predictions} holds no predictions')
    chosen = np.linspace(0, len(samples) - 1, min(images, len(samples))).round().astype(int)
    visualizer = DetLocalVisualizer()
    visualizer.dataset_meta = {'palette': 'random', **dataset_meta}
    tiles = [_draw(visualizer, samples[index], score_threshold) for index in chosen]
    if not cv2.imwrite(str(path), _arrange(tiles, columns)[..., ::-1]):
        raise OSError(f'{path} cannot be written')


def _draw(visualizer: DetLocalVisualizer, sample: Mapping[str, Any], score_threshold: float) -> np.ndarray:
    image = cv2.imread(sample['img_path'])
    if image is None:
        raise FileNotFoundError(f'{sample["img_path"]} cannot be read')
    scale = _TILE / max(image.shape[:2])
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    found = sample['pred_instances']
    # All masks of a low score would be decoded in vain: a detector returns up to 100 of them.
    kept = (found['scores'] >= score_threshold).nonzero().flatten().tolist()
    instances = InstanceData(
        bboxes=found['bboxes'][kept] * scale, scores=found['scores'][kept], labels=found['labels'][kept]
    )
    if 'masks' in found:
        masks = [cv2.resize(mask_utils.decode(found['masks'][index]), size) for index in kept]
        instances.masks = torch.from_numpy(np.array(masks, bool).reshape(-1, size[1], size[0]))
    visualizer.add_datasample(
        '',
        cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)[..., ::-1],
        DetDataSample(pred_instances=instances),
        draw_gt=False,
        pred_score_thr=score_threshold,
    )
    return visualizer.get_image()


def _arrange(tiles: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Lay images of at most _TILE pixels out on a white sheet with a narrow margin."""
    step = _TILE + 8
    columns = min(columns, len(tiles))
    sheet = np.full((math.ceil(len(tiles) / columns) * step, columns * step, 3), 255, np.uint8)
    for number, tile in enumerate(tiles):
        y, x = (index * step + 4 for index in divmod(number, columns))
        sheet[y : y + tile.shape[0], x : x + tile.shape[1]] = tile
    return sheet
