"""Normalization with moving averages in both passes (MABN, Yan et al., ICLR 2020)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .torch_private import eval_batch_norm, eval_batch_norm_backward


class _MovingAverageNormalize(torch.autograd.Function):
    """Equations 19 and 20; the docstring of :func:`moving_average_normalize` has them."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        zeros: Tensor,
        shifted: Tensor,
        r: Tensor,
        average: Callable[[Tensor], Tensor],
    ) -> Tensor:
        scale = weight * r
        ctx.save_for_backward(x, scale, zeros, shifted, r)
        ctx.average = average
        return eval_batch_norm(x, scale, bias, zeros, shifted, 0.0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, zeros, shifted, r = ctx.saved_tensors
        grad_x, sum_gz, sum_g = eval_batch_norm_backward(grad, x, scale, zeros, shifted, 0.0)
        psi = ctx.average(torch.addcmul(zeros, scale, sum_gz, value=x.size(1) / x.numel()))
        grad_x.addcmul_(x, (psi / shifted).to(x.dtype)[:, None, None], value=-1)
        return grad_x, sum_gz * r, sum_g, None, None, None, None


def moving_average_normalize(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    zeros: Tensor,
    shifted: Tensor,
    r: Tensor,
    average: Callable[[Tensor], Tensor],
) -> Tensor:
    """Normalize by a mean of squares, with an averaged statistic in the backward pass.

    With z = x / sqrt(chi2 + eps) and g = weight * r * dL/dout:

        out   = weight * r * z + bias                              (MABN, eq. 19)
        Psi_B = mean(g * z)
        dL/dx = (g - z * average(Psi_B)) / sqrt(chi2 + eps)        (MABN, eq. 20)

    Args:
        x: Shape (N, C, H, W), N * H * W >= 1.
        weight: Scale of shape (C,), or None for 1.
        bias: Offset of shape (C,), or None for 0.
        zeros: Shape (C,), float32 (float64 for float64 inputs), like the following.
        shifted: chi2 + eps, the mean of squares in use, shape (C,).
        r: Correction towards the running value, shape (C,), a constant in the backward pass.
        average: Takes Psi_B of shape (C,) during the backward pass and returns what stands in its place.

    Returns:
        Shape, type and memory format of ``x``. First derivatives only.
    """
    weight = torch.ones_like(zeros) if weight is None else weight.to(zeros.dtype)
    bias = zeros if bias is None else bias.to(zeros.dtype)
    out: Tensor = _MovingAverageNormalize.apply(x, weight, bias, zeros, shifted, r, average)
    return out
