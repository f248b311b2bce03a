"""Normalization with averages in the place of the batch's statistics, in both passes (beyond the papers)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .torch_private import eval_batch_norm, eval_batch_norm_backward


class _AveragedNormalize(torch.autograd.Function):
    """What the docstring of :func:`averaged_normalize` says."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        var: Tensor,
        eps: float,
        average: Callable[[Tensor], Tensor],
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, var)
        ctx.eps, ctx.average = eps, average
        return eval_batch_norm(x, weight, bias, mean, var, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, var = ctx.saved_tensors
        grad_x, sum_gz, sum_g = eval_batch_norm_backward(grad, x, weight, mean, var, ctx.eps)
        positions = x.numel() // x.size(1)
        averages = ctx.average(torch.stack((sum_g, sum_gz)) * weight)
        of_mean, of_std = averages * (torch.rsqrt(var + ctx.eps) / -positions)
        # of_mean + z * of_std: a product with x itself would round at the size of its mean.
        grad_x.add_(eval_batch_norm(x, of_std, of_mean, mean, var, ctx.eps))
        return grad_x, sum_gz, sum_g, None, None, None, None


def averaged_normalize(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    var: Tensor,
    eps: float,
    average: Callable[[Tensor], Tensor],
) -> Tensor:
    """Normalize by given statistics, with averages of what BN's backward pass takes from the batch.

    With z = (x - mean) / sqrt(var + eps) and g = weight * dL/dout:

        out   = weight * z + bias
        dL/dx = (g - average(sum(g)) / M - z * average(sum(g * z)) / M) / sqrt(var + eps)

    With the batch's own statistics and the identity for ``average`` this is BN. MABN's eq. 20 has the second
    of the averages, of means: sums are what dL/d mean and dL/d var are made of, and M, the number of
    positions, may differ from call to call.

    Args:
        x: Shape (N, C, H, W), N * H * W >= 1.
        weight: Scale of shape (C,), or None for 1.
        bias: Offset of shape (C,), or None for 0.
        mean: Shape (C,), float32 (float64 for float64 inputs), like ``var``; constants of the backward pass.
        var: Shape (C,).
        eps: Added to the variance.
        average: Takes sum(g) and sum(g * z), shape (2, C), during the backward pass and returns what stands
            in their place.

    Returns:
        Shape, type and memory format of ``x``. First derivatives only.
    """
    weight = torch.ones_like(mean) if weight is None else weight.to(mean.dtype)
    bias = torch.zeros_like(mean) if bias is None else bias.to(mean.dtype)
    out: Tensor = _AveragedNormalize.apply(x, weight, bias, mean, var, eps, average)
    return out
