"""Normalization layers for small batches. They need torch alone."""

from .batch_renorm import BatchRenorm2d
from .centered_conv import CenteredConv2d, fold_centering
from .cross_iteration import CrossIterationBatchNorm2d
from .cross_iteration_norm import CrossIterationNorm
from .effective_weight import effective_weight
from .errors import PairingError, SingleValueError
from .ghost_batch import GhostBatches, GhostBatchNorm2d, GhostBatchRenorm2d, GhostMovingAverageBatchNorm2d
from .moving_average import MovingAverageBatchNorm2d
from .naive_cross_iteration import NaiveCrossIterationBatchNorm2d
from .pairing import pair_conv_norm
from .stateful_norm import StatefulNorm

__all__ = [
    'BatchRenorm2d',
    'CenteredConv2d',
    'CrossIterationBatchNorm2d',
    'CrossIterationNorm',
    'GhostBatchNorm2d',
    'GhostBatchRenorm2d',
    'GhostBatches',
    'GhostMovingAverageBatchNorm2d',
    'MovingAverageBatchNorm2d',
    'NaiveCrossIterationBatchNorm2d',
    'PairingError',
    'SingleValueError',
    'StatefulNorm',
    'effective_weight',
    'fold_centering',
    'pair_conv_norm',
]
