"""Exposures that differ from image to image, and never for the same one."""

import numpy as np
import pytest

pytest.importorskip('mmcv')

from experiments.detection.exposure import CONTRASTS, GREY, SHIFTS, VaryExposure


def vary(image, number):
    return VaryExposure()({'img': image, 'img_id': number})['img']


def test_an_image_keeps_its_exposure():
    image = np.random.default_rng(0).integers(0, 256, (5, 6, 3)).astype(np.uint8)
    before = image.copy()
    assert np.array_equal(vary(image, 7), vary(image, 7))
    assert not np.array_equal(vary(image, 7), vary(image, 8))
    assert np.array_equal(image, before)


def test_contrast_and_brightness():
    """Two grey values tell both: each within its range, and spread over most of it."""
    levels = np.array([100, 156], np.uint8).repeat(3).reshape(1, 2, 3)
    varied = np.array([vary(levels, number)[0, :, 0] for number in range(300)], float)
    contrasts = np.diff(varied)[:, 0] / 56
    shifts = varied.mean(1) - GREY
    for found, (low, high), rounding in ((contrasts, CONTRASTS, 1 / 56), (shifts, SHIFTS, 0.5)):
        assert low - rounding <= found.min() < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < found.max() <= high + rounding
        assert found.mean() == pytest.approx((low + high) / 2, abs=0.1 * (high - low))


def test_values_stay_within_a_byte():
    black_and_white = np.array([0, 255], np.uint8).repeat(3).reshape(1, 2, 3)
    varied = np.concatenate([vary(black_and_white, number) for number in range(50)])
    assert varied.dtype == np.uint8
    assert (varied[:, 0] < varied[:, 1]).all()  # nothing wraps around
    assert varied.min() == 0
    assert varied.max() == 255
