"""Normalization by the batch with a constant correction (Batch Renormalization, Ioffe, NeurIPS 2017)."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .torch_private import batch_norm_backward, eval_batch_norm


class _Renormalize(torch.autograd.Function):
    """BN with weight * r for its weight and bias + weight * d for its bias."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        var: Tensor,
        r: Tensor,
        d: Tensor,
        eps: float,
    ) -> Tensor:
        scale = weight * r
        ctx.save_for_backward(x, scale, mean, var, r, d)
        ctx.eps = eps
        return eval_batch_norm(x, scale, torch.addcmul(bias, weight, d), mean, var, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, mean, var, r, d = ctx.saved_tensors
        invstd = torch.rsqrt(var + ctx.eps)
        grad_x, grad_scale, grad_bias = batch_norm_backward(grad, x, scale, mean, invstd)
        return grad_x, (grad_scale * r).addcmul_(grad_bias, d), grad_bias, None, None, None, None, None


def renormalize(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    var: Tensor,
    r: Tensor,
    d: Tensor,
    eps: float,
) -> Tensor:
    """Compute weight * (r * (x - mean) / sqrt(var + eps) + d) + bias, where r and d have no gradient.

    Args:
        x: Shape (N, C, H, W), N * H * W >= 1.
        weight: Scale of shape (C,), or None for 1.
        bias: Offset of shape (C,), or None for 0.
        mean: Of ``x``, shape (C,), float32 (float64 for float64 inputs), like the following.
        var: Of ``x``, biased, shape (C,).
        r: Correction of the scale, shape (C,).
        d: Correction of the offset, shape (C,).
        eps: Added to the variance.

    Returns:
        Shape, type and memory format of ``x``. First derivatives only.
    """
    weight = torch.ones_like(mean) if weight is None else weight.to(mean.dtype)
    bias = torch.zeros_like(mean) if bias is None else bias.to(mean.dtype)
    return _Renormalize.apply(x, weight, bias, mean, var, r, d, eps)
