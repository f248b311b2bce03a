"""The names of the norm layers, in configs and in :func:`~mmdet_cbn.layers.convert_batch_norm`."""

from .batch_renorm import BatchRenorm2d
from .cross_iteration import CrossIterationBatchNorm2d
from .cross_mini_batch import CrossMiniBatchNorm2d
from .moving_average import MovingAverageBatchNorm2d
from .naive_cross_iteration import NaiveCrossIterationBatchNorm2d
from .stateful_norm import StatefulNorm

NORM_LAYERS: dict[str, type[StatefulNorm]] = {
    'CBN': CrossIterationBatchNorm2d,
    'NaiveCBN': NaiveCrossIterationBatchNorm2d,
    'CmBN': CrossMiniBatchNorm2d,
    'MABN': MovingAverageBatchNorm2d,
    'BRN': BatchRenorm2d,
}
