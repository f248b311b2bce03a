"""The mathematics of the layers: pure functions on tensors, without state."""

from .averaged_gradient import averaged_normalize
from .compensation import (
    PastMoments,
    PooledDerivatives,
    PooledMoments,
    compensate,
    intercepts,
    pool,
    pooled_derivatives,
)
from .conv_call import ConvCall
from .derivatives import (
    Derivatives,
    estimate_variance_derivative,
    mean_derivative,
    move_centre,
    variance_derivative,
)
from .exponential import (
    ExponentialMoments,
    exponential_derivatives,
    mix_derivatives,
    pool_exponentially,
)
from .moments import Moments, all_finite, batch_moments, mean_of_squares, statistics_dtype, store_as
from .moving_average import moving_average_normalize
from .normalization import normalize
from .renormalization import renormalize
from .synchronization import JointMoments, joint_derivatives, joint_moments, joint_normalize
from .window_gradient import attach_gradient

__all__ = [
    'ConvCall',
    'Derivatives',
    'ExponentialMoments',
    'JointMoments',
    'Moments',
    'PastMoments',
    'PooledDerivatives',
    'PooledMoments',
    'all_finite',
    'attach_gradient',
    'averaged_normalize',
    'batch_moments',
    'compensate',
    'estimate_variance_derivative',
    'exponential_derivatives',
    'intercepts',
    'joint_derivatives',
    'joint_moments',
    'joint_normalize',
    'mean_derivative',
    'mean_of_squares',
    'mix_derivatives',
    'move_centre',
    'moving_average_normalize',
    'normalize',
    'pool',
    'pool_exponentially',
    'pooled_derivatives',
    'renormalize',
    'statistics_dtype',
    'store_as',
    'variance_derivative',
]
