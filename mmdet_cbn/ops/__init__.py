"""The mathematics of the layers: pure functions on tensors, without state."""

from .compensation import compensate, pool, pooled_derivatives, project
from .derivatives import estimate_variance_derivative, mean_derivative, variance_derivative
from .moments import all_finite, batch_moments, mean_of_squares, statistics_dtype
from .moving_average import moving_average_normalize
from .normalization import normalize
from .synchronization import joint_derivatives, joint_moments, joint_normalize

__all__ = [
    'all_finite',
    'batch_moments',
    'compensate',
    'estimate_variance_derivative',
    'joint_derivatives',
    'joint_moments',
    'joint_normalize',
    'mean_derivative',
    'mean_of_squares',
    'moving_average_normalize',
    'normalize',
    'pool',
    'pooled_derivatives',
    'project',
    'statistics_dtype',
    'variance_derivative',
]
