"""Normalization with statistics that come from more than the current batch."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .torch_private import batch_norm_backward, eval_batch_norm


class _Normalize(torch.autograd.Function):
    """One fused forward pass, and BN's own backward pass with its statistics' terms scaled.

    With S = sum(g) and D = sum(g * (y - mean)) over the batch, g = d L / d out, the derivative through y
    and through the current share w of mu_bar and nu_bar (CBN, eq. 9 to 12) is

        dL/dy = weight / std * (g - w / M * (S + (y - mean) * D / std^2)),

    which for w = 1 is BN's. So it is w times BN's training gradient and (1 - w) times its eval gradient.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        var: Tensor,
        share: Tensor | None,
        eps: float,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, var, share)
        ctx.eps = eps
        return eval_batch_norm(x, weight, bias, mean, var, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, var, share = ctx.saved_tensors
        invstd = torch.rsqrt(var + ctx.eps)
        needs = ctx.needs_input_grad
        through_statistics = weight if share is None else weight * share
        grad_x, grad_weight, grad_bias = batch_norm_backward(
            grad,
            x,
            through_statistics,
            mean,
            invstd,
            (needs[0], needs[1] or needs[4], needs[2] or needs[3]),
        )
        if share is not None and grad_x is not None:
            direct = ((weight - through_statistics) * invstd).to(grad.dtype)
            grad_x.addcmul_(grad, direct[:, None, None])
        # What reaches mean and var themselves, as functions of something else than x.
        grad_mean = -weight * invstd * grad_bias if needs[3] else None
        grad_var = -0.5 * weight * invstd.square() * grad_weight if needs[4] else None
        return grad_x, grad_weight, grad_bias, grad_mean, grad_var, None, None


def normalize(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    var: Tensor,
    eps: float,
    share: Tensor | None = None,
) -> Tensor:
    """Compute weight * (x - mean) / sqrt(var + eps) + bias with gradients for part of the statistics.

    Args:
        x: Shape (N, C, H, W), N * H * W >= 1.
        weight: Scale of shape (C,), or None for 1.
        bias: Offset of shape (C,), or None for 0.
        mean: Shape (C,), float32 (float64 for float64 inputs), like ``var``. Where they require gradients,
            these are the ones at fixed ``x``.
        var: Shape (C,).
        eps: Added to the variance.
        share: Weight with which the statistics of ``x`` itself entered ``mean`` and the mean of squares,
            shape (): their gradient is scaled by it. None: they are the statistics of ``x`` (BN).

    Returns:
        Shape, type and memory format of ``x``. First derivatives only.
    """
    weight = torch.ones_like(mean) if weight is None else weight.to(mean.dtype)
    bias = torch.zeros_like(mean) if bias is None else bias.to(mean.dtype)
    out: Tensor = _Normalize.apply(x, weight, bias, mean, var, share, eps)
    return out
