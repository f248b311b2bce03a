"""Normalization layers for small batches. They need torch alone."""

from .batch_renorm import BatchRenorm2d
from .centered_conv import CenteredConv2d, fold_centering
from .cross_iteration import CrossIterationBatchNorm2d, NaiveCrossIterationBatchNorm2d
from .effective_weight import effective_weight
from .moving_average import MovingAverageBatchNorm2d
from .pairing import pair_conv_norm

__all__ = [
    'BatchRenorm2d',
    'CenteredConv2d',
    'CrossIterationBatchNorm2d',
    'MovingAverageBatchNorm2d',
    'NaiveCrossIterationBatchNorm2d',
    'effective_weight',
    'fold_centering',
    'pair_conv_norm',
]
