"""The task of the study: handwritten digits somewhere on a dim, lightly cluttered canvas.

Scikit-learn's 8 x 8 digits are pasted at random places, sizes and contrasts between fragments of other
digits. Each epoch has fresh samples. A sample depends on the seed, the epoch and its place in the epoch
alone, so all methods and all batch sizes see the same images in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import count, islice
from typing import NamedTuple

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional as F

CLASSES = 10
CANVAS = 32  # pixels, height and width
FRAGMENTS = 3
LONG_EPOCH = 6000  # samples, where epochs mean nothing
# Which digits the samples of a split show, in scikit-learn's order.
SPLITS = {'training': slice(None, -500), 'validation': slice(-500, -300), 'test': slice(-300, None)}
NOISE = 0.05
DIGIT_SIZE = (16, 26)  # pixels
DIGIT_CONTRAST = (0.5, 1.0)
FRAGMENT_SIZE = (4, 8)
FRAGMENT_CONTRAST = (0.2, 0.5)
BACKGROUND = (0.0, 0.3)
_HELD_OUT_SEED = 2020  # in streams of their own, apart from those of the training seeds


class Samples(NamedTuple):
    """Images, float32 of shape (N, 1, 32, 32) around 0 to 1, and labels, int64 of shape (N,)."""

    images: Tensor
    labels: Tensor


@lru_cache(maxsize=16)  # an epoch of the largest batches takes 39 MB
def training_samples(seed: int, epoch: int, count: int) -> Samples:
    """Return the training samples of an epoch, always the same ones; do not change them in place.

    Args:
        seed: At least 0.
        epoch: At least 0.
        count: Number of samples. More of them begin with the same ones.
    """
    return _render((0, seed, epoch), count, _digits('training'))


@lru_cache(maxsize=4)
def held_out_samples(split: str, count: int) -> Samples:
    """Return samples of digits that no other split shows, always the same ones.

    Args:
        split: 'validation' or 'test'.
        count: Number of samples.
    """
    stream = {'test': 1, 'validation': 2}[split]
    return _render((stream, _HELD_OUT_SEED), count, _digits(split))


def batches(seed: int, epoch: int, batch_size: int, count: int) -> Iterator[Samples]:
    """Yield the training samples of an epoch in their order, the last batch smaller if need be.

    Args:
        seed: At least 0.
        epoch: At least 0.
        batch_size: Samples a batch.
        count: Samples an epoch.
    """
    images, labels = training_samples(seed, epoch, count)
    yield from map(Samples, images.split(batch_size), labels.split(batch_size))


def endless_batches(batch_size: int, iterations: int) -> Iterator[Samples]:
    """Yield the training samples of a run that is as long as it is told, of seed 0."""
    endless = (batch for epoch in count() for batch in batches(0, epoch, batch_size, LONG_EPOCH))
    return islice(endless, iterations)


@lru_cache(maxsize=3)
def _digits(split: str) -> tuple[Tensor, Tensor]:
    """Return digits (N, 1, 8, 8) from 0 to 1 and their classes."""
    digits = load_digits()
    part = SPLITS[split]
    images = torch.from_numpy(digits.images[part]).float().div(16)
    return images[:, None], torch.from_numpy(digits.target[part]).long()


def _render(key: tuple[int, ...], count: int, digits: tuple[Tensor, Tensor]) -> Samples:
    images, classes = digits
    # One row of numbers a sample: the first samples are the same however many there are.
    rows = np.random.default_rng((*key, 0)).random((count, 6 + 7 * FRAGMENTS), dtype=np.float32)
    noise = np.random.default_rng((*key, 1)).standard_normal((count, 1, CANVAS, CANVAS), dtype=np.float32)
    columns = iter(torch.from_numpy(rows).unbind(1))

    canvas = NOISE * torch.from_numpy(noise)
    canvas += _between(BACKGROUND, next(columns))[:, None, None, None]
    chosen = _index(len(images), next(columns))
    _paste(canvas, images[chosen], columns, DIGIT_SIZE, DIGIT_CONTRAST)
    crops = images.unfold(2, 4, 1).unfold(3, 4, 1)  # (N, 1, 5, 5, 4, 4): each 4 x 4 part of each digit
    for _ in range(FRAGMENTS):
        number, row, column = (_index(size, next(columns)) for size in (len(images), 5, 5))
        _paste(canvas, crops[number, :, row, column], columns, FRAGMENT_SIZE, FRAGMENT_CONTRAST)
    return Samples(canvas, classes[chosen])


def _paste(
    canvas: Tensor,
    patches: Tensor,
    columns: Iterator[Tensor],
    sizes: tuple[float, float],
    contrasts: tuple[float, float],
) -> None:
    """Add patches (N, 1, h, w), whole and enlarged, to the canvases; the columns say where and how."""
    size, contrast = _between(sizes, next(columns)), _between(contrasts, next(columns))
    pixels = torch.arange(CANVAS) + 0.5
    # From -1 to 1 inside of the patch, which begins at a random place of those where it fits.
    across, down = (
        2 * (pixels - ((CANVAS - size) * next(columns))[:, None]) / size[:, None] - 1 for _ in range(2)
    )
    grid = torch.stack(
        (across[:, None].expand(-1, CANVAS, -1), down[:, :, None].expand(-1, -1, CANVAS)), dim=-1
    )
    canvas += contrast[:, None, None, None] * F.grid_sample(patches, grid, align_corners=False)


def _between(limits: tuple[float, float], uniform: Tensor) -> Tensor:
    low, high = limits
    return low + (high - low) * uniform


def _index(size: int, uniform: Tensor) -> Tensor:
    """Turn numbers in [0, 1) into indices of something of that size."""
    return (uniform * size).long().clamp(max=size - 1)  # float32 can round up to the size itself
