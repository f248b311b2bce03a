"""Normalization layers for small batches. They need torch alone."""

from .averaged import AveragedBatchNorm2d
from .batch_renorm import BatchRenorm2d
from .centered_conv import CenteredConv2d, fold_centering
from .convert import Conversion, convert_batch_norm
from .cross_iteration import CrossIterationBatchNorm2d
from .cross_iteration_norm import CrossIterationNorm
from .cross_mini_batch import CrossMiniBatchNorm2d, end_step
from .effective_weight import effective_weight
from .errors import PairingError, SingleValueError
from .ghost_batch import GhostBatches, GhostBatchNorm2d, GhostBatchRenorm2d, GhostMovingAverageBatchNorm2d
from .moving_average import MovingAverageBatchNorm2d
from .naive_cross_iteration import NaiveCrossIterationBatchNorm2d
from .padded_input import padded_input
from .pairing import pair_conv_norm
from .plain import plain_module, to_batch_norm
from .stateful_norm import StatefulNorm

__all__ = [
    'AveragedBatchNorm2d',
    'BatchRenorm2d',
    'CenteredConv2d',
    'Conversion',
    'CrossIterationBatchNorm2d',
    'CrossIterationNorm',
    'CrossMiniBatchNorm2d',
    'GhostBatchNorm2d',
    'GhostBatchRenorm2d',
    'GhostBatches',
    'GhostMovingAverageBatchNorm2d',
    'MovingAverageBatchNorm2d',
    'NaiveCrossIterationBatchNorm2d',
    'PairingError',
    'SingleValueError',
    'StatefulNorm',
    'convert_batch_norm',
    'effective_weight',
    'end_step',
    'fold_centering',
    'padded_input',
    'pair_conv_norm',
    'plain_module',
    'to_batch_norm',
]
