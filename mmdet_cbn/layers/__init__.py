"""Normalization layers for small batches. They need torch alone."""

from .batch_renorm import BatchRenorm2d
from .centered_conv import CenteredConv2d, fold_centering
from .convert import Conversion, convert_batch_norm
from .cross_iteration import CrossIterationBatchNorm2d
from .cross_iteration_norm import CrossIterationNorm
from .effective_weight import effective_weight
from .errors import PairingError, SingleValueError
from .moving_average import MovingAverageBatchNorm2d
from .naive_cross_iteration import NaiveCrossIterationBatchNorm2d
from .padded_input import padded_input
from .pairing import pair_conv_norm
from .stateful_norm import StatefulNorm

__all__ = [
    'BatchRenorm2d',
    'CenteredConv2d',
    'Conversion',
    'CrossIterationBatchNorm2d',
    'CrossIterationNorm',
    'MovingAverageBatchNorm2d',
    'NaiveCrossIterationBatchNorm2d',
    'PairingError',
    'SingleValueError',
    'StatefulNorm',
    'convert_batch_norm',
    'effective_weight',
    'fold_centering',
    'padded_input',
    'pair_conv_norm',
]
