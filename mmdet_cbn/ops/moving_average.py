"""Normalization with moving averages in both passes (MABN, Yan et al., ICLR 2020)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from .torch_private import eval_batch_norm_backward


class _MovingAverageNormalize(torch.autograd.Function):
    """Equations 19 and 20; the docstring of :func:`moving_average_normalize` has them."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        chi2: Tensor,
        r: Tensor,
        eps: float,
        average: Callable[[Tensor], Tensor],
    ) -> Tensor:
        ctx.save_for_backward(x, weight, chi2, r)
        ctx.eps, ctx.average = eps, average
        return F.batch_norm(x, torch.zeros_like(chi2), chi2, weight * r, bias, eps=eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, chi2, r = ctx.saved_tensors
        scale = weight * r
        grad_x, sum_gz, sum_g = eval_batch_norm_backward(
            grad, x, scale, torch.zeros_like(chi2), chi2, ctx.eps
        )
        psi = ctx.average(scale * sum_gz / (x.numel() // x.size(1)))
        grad_x.addcmul_(x, (-psi / (chi2 + ctx.eps)).to(x.dtype)[:, None, None])
        return grad_x, sum_gz * r, sum_g, None, None, None, None


def moving_average_normalize(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    chi2: Tensor,
    r: Tensor,
    eps: float,
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
        chi2: The mean of squares in use, shape (C,), float32 (float64 for float64 inputs).
        r: Correction towards the running value, shape (C,), a constant in the backward pass.
        eps: Added to the mean of squares.
        average: Takes Psi_B of shape (C,) during the backward pass and returns what stands in its place.

    Returns:
        Shape, type and memory format of ``x``. First derivatives only.
    """
    weight = torch.ones_like(chi2) if weight is None else weight.to(chi2.dtype)
    bias = torch.zeros_like(chi2) if bias is None else bias.to(chi2.dtype)
    return _MovingAverageNormalize.apply(x, weight, bias, chi2, r, eps, average)
