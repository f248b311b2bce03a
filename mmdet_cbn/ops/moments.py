"""Mean and variance of one mini-batch."""

from typing import NamedTuple

import torch
from torch import Tensor

from .torch_private import batch_norm_statistics, eval_batch_norm_backward


class Moments(NamedTuple):
    """Mean and biased variance per channel, both of shape (C,)."""

    mean: Tensor
    var: Tensor


def statistics_dtype(x: Tensor) -> torch.dtype:
    """Return the type in which the statistics of ``x`` are kept: float64 for float64, else float32."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def store_as(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert to a type that may be too small: what it cannot hold becomes its largest value, not inf."""
    if values.dtype == dtype:
        return values
    limit = min(torch.finfo(dtype).max, torch.finfo(values.dtype).max)
    return values.clamp(-limit, limit).to(dtype)


@torch.no_grad()
def batch_moments(x: Tensor, running: Moments | None = None, momentum: float = 0.0) -> Moments:
    """Compute mean and biased variance per channel.

    Args:
        x: Activations of shape (N, C, H, W), any floating type and memory format.
        running: Running statistics in :func:`statistics_dtype`, moved in place as BN moves them: the variance
            by the unbiased one. Where there is one value per channel, it becomes nan.
        momentum: Weight of ``x`` in them.

    Returns:
        Both in :func:`statistics_dtype`; zeros for an empty batch. The mean of squares of the papers is
        ``var + mean ** 2``: this form does not cancel when the mean is large.
    """
    if not x.numel():
        return Moments(*x.new_zeros(2, x.size(1), dtype=statistics_dtype(x)).unbind())
    if running is None and x.dtype != statistics_dtype(x):
        running = Moments(*x.new_zeros(2, x.size(1), dtype=statistics_dtype(x)).unbind())
    mean, var = (None, None) if running is None else running
    return Moments(*batch_norm_statistics(x, mean, var, momentum))


def all_finite(values: Tensor, dim: int | None = None) -> Tensor:
    """Tell whether no value is inf or nan, along an axis or anywhere.

    One reduction and one comparison; ``isfinite().all()`` is five operations, each of them a launch on a GPU.

    Args:
        values: Any shape with at least one value, any floating type.
        dim: The axis, None for all.

    Returns:
        Bool, shape () or that of the other axes, on the device of ``values``.

    Raises:
        RuntimeError: There are no values.
    """
    largest: Tensor = torch.linalg.vector_norm(values, float('inf'), dim)
    return largest < float('inf')


@torch.no_grad()
def mean_of_squares(x: Tensor, zeros: Tensor) -> Tensor:
    """Compute the mean of squares per channel.

    Args:
        x: Activations of shape (N, C, H, W), N * H * W = M >= 1, any floating type and memory format.
        zeros: Shape (C,), in :func:`statistics_dtype`.

    Returns:
        Shape and type of ``zeros``.
    """
    # The weight's gradient of a batch norm is the sum of grad * (x - mean) / sqrt(var + eps): one pass that
    # accumulates in the statistics' type, and several times as fast as a norm over these axes.
    positions = x.numel() // x.size(1)
    _, mean, _ = eval_batch_norm_backward(x, x, zeros, zeros, zeros, positions**2, (False, True, False))
    return mean
