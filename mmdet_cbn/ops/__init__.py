"""The mathematics of the layers: pure functions on tensors, without state."""

from .compensation import compensate, pool, pooled_derivatives, project
from .derivatives import mean_derivative, variance_derivative
from .moments import batch_moments, statistics_dtype
from .moving_average import moving_average_normalize
from .normalization import normalize

__all__ = [
    'batch_moments',
    'compensate',
    'mean_derivative',
    'moving_average_normalize',
    'normalize',
    'pool',
    'pooled_derivatives',
    'project',
    'statistics_dtype',
    'variance_derivative',
]
