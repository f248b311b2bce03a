"""Mean and variance of one mini-batch."""

import torch
from torch import Tensor


def statistics_dtype(x: Tensor) -> torch.dtype:
    """Return the type in which the statistics of ``x`` are kept: float64 for float64, else float32."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


@torch.no_grad()
def batch_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Compute mean and biased variance per channel.

    Args:
        x: Activations of shape (N, C, H, W), any floating type and memory format.

    Returns:
        Mean and biased variance, both of shape (C,), in :func:`statistics_dtype`; zeros for an empty batch.
        The mean of squares of the papers is ``var + mean ** 2``: this form does not cancel when the mean is
        large.
    """
    # Float32 running values make torch accumulate and return float32 for half inputs.
    # With momentum 0 they are left as they are.
    unused = x.new_zeros(2, x.size(1), dtype=statistics_dtype(x))
    if x.numel() == 0:
        return unused[0], unused[1]
    return torch.batch_norm_update_stats(x, unused[0], unused[1], 0.0)
