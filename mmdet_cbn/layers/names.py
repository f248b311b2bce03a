"""The names of the norm layers, in configs and in :func:`~mmdet_cbn.layers.convert_batch_norm`."""

from typing import Any

from .averaged import AveragedBatchNorm2d
from .batch_renorm import BatchRenorm2d
from .cross_iteration import CrossIterationBatchNorm2d
from .cross_mini_batch import CrossMiniBatchNorm2d
from .ghost_batch import GhostBatchNorm2d, GhostBatchRenorm2d, GhostMovingAverageBatchNorm2d
from .moving_average import MovingAverageBatchNorm2d
from .naive_cross_iteration import NaiveCrossIterationBatchNorm2d

NORM_LAYERS: dict[str, type[Any]] = {
    'CBN': CrossIterationBatchNorm2d,
    'NaiveCBN': NaiveCrossIterationBatchNorm2d,
    'CmBN': CrossMiniBatchNorm2d,
    'AvgBN': AveragedBatchNorm2d,
    'MABN': MovingAverageBatchNorm2d,
    'BRN': BatchRenorm2d,
    'GhostBN': GhostBatchNorm2d,
    'GhostBRN': GhostBatchRenorm2d,
    'GhostMABN': GhostMovingAverageBatchNorm2d,
}
