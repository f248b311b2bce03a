"""Gradients that reach the weights through the earlier entries of a window (beyond the paper)."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .compensation import PooledDerivatives


class _AttachGradient(torch.autograd.Function):
    """The identity of mu_bar and var_bar, with the derivatives by weights and bias that it is given."""

    @staticmethod
    def forward(
        ctx: Any, mean: Tensor, var: Tensor, theta: Tensor, bias: Tensor | None, *derivatives: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(*derivatives)
        return mean.clone(), var.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_mean: Tensor, grad_var: Tensor) -> tuple[Tensor | None, ...]:
        derivatives = PooledDerivatives(*ctx.saved_tensors)
        groups, size = derivatives.mean.shape
        grad_theta = grad_bias = None
        if ctx.needs_input_grad[2]:
            grad_theta = (grad_mean.view(groups, -1, 1) * derivatives.mean[:, None]).view(-1, size)
            grad_theta.addcmul_(derivatives.var, grad_var[:, None])
        if ctx.needs_input_grad[3]:
            grad_bias = derivatives.mean_by_bias * grad_mean + derivatives.var_by_bias * grad_var
        return None, None, grad_theta, grad_bias, None, None, None, None


def attach_gradient(
    mean: Tensor, var: Tensor, derivatives: PooledDerivatives, theta: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return mu_bar and var_bar unchanged, with gradients that reach the weights through past entries.

    Args:
        mean: mu_bar, shape (C,).
        var: var_bar, shape (C,).
        derivatives: Of both.
        theta: The weights (C, D) with their graph.
        bias: Shape (C,) with its graph, or None.
    """
    attached: tuple[Tensor, Tensor] = _AttachGradient.apply(mean, var, theta, bias, *derivatives)
    return attached
