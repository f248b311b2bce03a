"""Mean and variance of one mini-batch."""

from typing import NamedTuple

import torch
from torch import Tensor

from .torch_private import batch_norm_backward, batch_norm_statistics


class Moments(NamedTuple):
    """Mean and biased variance per channel, both of shape (C,)."""

    mean: Tensor
    var: Tensor


def statistics_dtype(x: Tensor) -> torch.dtype:
    """Return the type in which the statistics of ``x`` are kept: float64 for float64, else float32."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


@torch.no_grad()
def batch_moments(x: Tensor) -> Moments:
    """Compute mean and biased variance per channel.

    Args:
        x: Activations of shape (N, C, H, W), any floating type and memory format.

    Returns:
        Both in :func:`statistics_dtype`; zeros for an empty batch. The mean of squares of the papers is
        ``var + mean ** 2``: this form does not cancel when the mean is large.
    """
    zeros = x.new_zeros(2, x.size(1), dtype=statistics_dtype(x)).unbind()
    return Moments(*(batch_norm_statistics(x, *zeros) if x.numel() else zeros))


def all_finite(values: Tensor) -> Tensor:
    """Tell whether no value is inf or nan.

    One reduction and one comparison; ``isfinite().all()`` is five operations, each of them a launch on a GPU.

    Args:
        values: Any shape with at least one value, any floating type.

    Returns:
        Bool, shape (), on the device of ``values``.

    Raises:
        RuntimeError: There are no values.
    """
    return torch.linalg.vector_norm(values, float('inf')) < float('inf')


@torch.no_grad()
def mean_of_squares(x: Tensor) -> Tensor:
    """Compute the mean of squares per channel.

    Args:
        x: Activations of shape (N, C, H, W), N * H * W >= 1, any floating type and memory format.

    Returns:
        Shape (C,), in :func:`statistics_dtype`.
    """
    zeros = x.new_zeros(x.size(1), dtype=statistics_dtype(x))
    ones = torch.ones_like(zeros)
    # The weight's gradient of a batch norm with mean 0 and deviation 1 is the sum of grad * x: one pass
    # that accumulates in the statistics' type, and several times as fast as a norm over these axes.
    _, squares, _ = batch_norm_backward(x, x, ones, zeros, ones, (False, True, False))
    return squares / (x.numel() // x.size(1))
