"""Normalization by the batch with a constant correction (Batch Renormalization, Ioffe, NeurIPS 2017)."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .torch_private import batch_norm_backward, eval_batch_norm


class _Renormalize(torch.autograd.Function):
    """BN with weight * r for its weight and bias - weight * drift for its bias."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        var: Tensor,
        std: Tensor,
        r: Tensor,
        drift: Tensor,
        eps: float,
    ) -> Tensor:
        scale = weight * r
        ctx.save_for_backward(x, scale, mean, std, r, drift)
        return eval_batch_norm(x, scale, torch.addcmul(bias, weight, drift, value=-1), mean, var, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, mean, std, r, drift = ctx.saved_tensors
        grad_x, grad_scale, grad_bias = batch_norm_backward(grad, x, scale, mean, 1 / std)
        return grad_x, (grad_scale * r).addcmul_(grad_bias, drift, value=-1), grad_bias, *[None] * 6


def renormalize(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    var: Tensor,
    std: Tensor,
    r: Tensor,
    drift: Tensor,
    eps: float,
) -> Tensor:
    """Compute weight * (r * (x - mean) / sqrt(var + eps) - drift) + bias, where r and drift have no gradient.

    Args:
        x: Shape (N, C, H, W), N * H * W >= 1.
        weight: Scale of shape (C,), or None for 1.
        bias: Offset of shape (C,), or None for 0.
        mean: Of ``x``, shape (C,), float32 (float64 for float64 inputs), like the following.
        var: Of ``x``, biased, shape (C,).
        std: sqrt(var + eps), shape (C,).
        r: Correction of the scale, shape (C,).
        drift: -d, the correction of the offset, shape (C,).
        eps: Added to the variance.

    Returns:
        Shape, type and memory format of ``x``. First derivatives only.
    """
    weight = torch.ones_like(mean) if weight is None else weight.to(mean.dtype)
    bias = torch.zeros_like(mean) if bias is None else bias.to(mean.dtype)
    out: Tensor = _Renormalize.apply(x, weight, bias, mean, var, std, r, drift, eps)
    return out
