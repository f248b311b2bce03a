import pickle

import cv2
import numpy as np
import pytest
import torch
from pycocotools import mask as mask_utils

pytest.importorskip('mmdet')

from experiments.reports.detections import draw_sheet

META = {'classes': ('thing',), 'palette': [(255, 0, 0)]}


@pytest.fixture
def predictions(tmp_path):
    """Three black images of 100 x 50, each with a box around its left half, scores 0.9, 0.9 and 0.1."""
    samples = []
    for number, score in enumerate([0.9, 0.9, 0.1]):
        path = tmp_path / f'{number}.png'
        cv2.imwrite(str(path), np.zeros((50, 100, 3), np.uint8))
        mask = np.zeros((50, 100, 1), np.uint8, order='F')
        mask[10:40, 10:40] = 1
        found = {
            'bboxes': torch.tensor([[10.0, 10.0, 40.0, 40.0]]),
            'scores': torch.tensor([score]),
            'labels': torch.tensor([0]),
            'masks': mask_utils.encode(mask),
        }
        samples.append({'img_path': str(path), 'pred_instances': found})
    path = tmp_path / 'predictions.pkl'
    path.write_bytes(pickle.dumps(samples))
    return path


def test_boxes_and_masks_stand_where_they_were_found(predictions, tmp_path):
    draw_sheet(predictions, META, tmp_path / 'sheet.png', columns=2)
    sheet = cv2.imread(str(tmp_path / 'sheet.png'))
    assert sheet.shape == (2 * 328, 2 * 328, 3)
    first, second, third = sheet[4:164, 4:324], sheet[4:164, 332:652], sheet[332:492, 4:324]
    for tile in (first, second):
        blue, green, red = tile[80, 80].astype(int)  # in the mask, which lies from 32 to 128
        assert red > 50
        assert red > 2 * max(blue, green)
        assert tile[:, 160:].max() == 0
    assert third.max() == 0
    assert (sheet[332:, 332:] == 255).all()


def test_score_threshold(predictions, tmp_path):
    draw_sheet(predictions, META, tmp_path / 'sheet.png', columns=3, score_threshold=0.05)
    assert cv2.imread(str(tmp_path / 'sheet.png'))[4:164, 660:980].max() > 0


def test_images_are_spread_over_the_file(predictions, tmp_path):
    draw_sheet(predictions, META, tmp_path / 'sheet.png', images=2)
    sheet = cv2.imread(str(tmp_path / 'sheet.png'))
    assert sheet[4:164, 4:324].max() > 0  # the first of three
    assert sheet[4:164, 332:652].max() == 0  # the last


def test_without_masks(predictions, tmp_path):
    samples = pickle.loads(predictions.read_bytes())
    for sample in samples:
        del sample['pred_instances']['masks']
    predictions.write_bytes(pickle.dumps(samples))
    draw_sheet(predictions, META, tmp_path / 'sheet.png')
    tile = cv2.imread(str(tmp_path / 'sheet.png'))[4:164, 4:324]
    assert tile[80, 80].max() == 0
    assert tile[80, 32].max() > 0


def test_what_cannot_be_drawn(predictions, tmp_path):
    with pytest.raises(OSError, match='sheet'):
        draw_sheet(predictions, META, tmp_path / 'missing/sheet.png')
    (tmp_path / '0.png').unlink()
    with pytest.raises(FileNotFoundError, match=r'0\.png'):
        draw_sheet(predictions, META, tmp_path / 'sheet.png')
    predictions.write_bytes(pickle.dumps([]))
    with pytest.raises(ValueError, match='no predictions'):
        draw_sheet(predictions, META, tmp_path / 'sheet.png')
