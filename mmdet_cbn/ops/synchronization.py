"""Statistics of one batch that is spread over the processes of torch's default group."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable

from .derivatives import Derivatives
from .moments import Moments
from .torch_private import batch_norm_backward, eval_batch_norm


class JointMoments(NamedTuple):
    """Statistics over all processes.

    Attributes:
        moments: Mean and biased variance of all.
        total: Number of positions of all, shape (), 0 if none has any (the moments are nan then).
        part: Share of this process in them, shape ().
    """

    moments: Moments
    total: Tensor
    part: Tensor


@torch.no_grad()
def joint_moments(own: Moments, positions: int) -> JointMoments:
    """Compute mean and variance over all processes.

    Args:
        own: Of this process. Where it has no positions: anything finite.
        positions: Number of values behind them here, 0 allowed.
    """
    mean, var = own
    packed = torch.cat((mean, var, mean.new_full((1,), positions)))
    gathered = [torch.empty_like(packed) for _ in range(distributed.get_world_size())]
    distributed.all_gather(gathered, packed)
    rows = torch.stack(gathered)
    channels = mean.numel()
    means, variances, counts = rows[:, :channels], rows[:, channels:-1], rows[:, -1:]
    total = counts.sum()
    parts = counts / total
    joint_mean = (parts * means).sum(0)
    joint_var = (parts * (variances + (means - joint_mean).square())).sum(0)
    return JointMoments(Moments(joint_mean, joint_var), total, positions / total)


@torch.no_grad()
def joint_derivatives(own: Derivatives, part: Tensor) -> Derivatives:
    """Compute derivatives over all processes: of their mean, and of their mean of squares about one centre.

    Args:
        own: Of this process, about the same centre in all of them.
        part: Share of this process in all positions, shape ().
    """
    packed = part * torch.cat(own)
    distributed.all_reduce(packed)
    return Derivatives(*packed.split((own.mean.size(0), own.var.size(0))))


class _JointNormalize(torch.autograd.Function):
    """As ``_Normalize``, with S and D summed over the processes, M positions in all of them."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        var: Tensor,
        share: Tensor,
        total: Tensor,
        eps: float,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, var, share, total)
        ctx.eps = eps
        return eval_batch_norm(x, weight, bias, mean, var, eps) if x.numel() else torch.empty_like(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, var, share, total = ctx.saved_tensors
        invstd = torch.rsqrt(var + ctx.eps)
        if x.numel():
            _, grad_weight, grad_bias = batch_norm_backward(
                grad, x, weight, mean, invstd, (False, True, True)
            )
        else:
            grad_weight, grad_bias = torch.zeros_like(mean), torch.zeros_like(mean)
        sums = torch.stack((grad_weight, grad_bias))
        distributed.all_reduce(sums)
        direct = weight * invstd
        of_var, of_mean = -sums * direct * share / total
        slope = of_var * invstd
        grad_x = grad * direct[:, None, None].to(grad.dtype)
        grad_x.addcmul_(x, slope[:, None, None].to(grad.dtype))
        grad_x.add_((of_mean - slope * mean)[:, None, None].to(grad.dtype))
        # What reaches mean and var themselves is summed over the processes with the weights' gradients. Where
        # no process has data, the statistics are nan, and nothing reaches them.
        grad_mean = torch.where(total > 0, -direct * grad_bias, 0)
        grad_var = torch.where(total > 0, -0.5 * direct * invstd * grad_weight, 0)
        return grad_x, grad_weight, grad_bias, grad_mean, grad_var, None, None, None


def joint_normalize(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    var: Tensor,
    eps: float,
    share: Tensor,
    total: Tensor,
) -> Tensor:
    """Normalize this process's part of a batch; all processes take part in the backward pass.

    Args:
        x: Shape (N, C, H, W), empty ones included.
        weight: Scale of shape (C,), or None for 1.
        bias: Offset of shape (C,), or None for 0.
        mean: Shape (C,), see :func:`.normalize`.
        var: Shape (C,).
        eps: Added to the variance.
        share: Weight with which the joint statistics of the batch entered ``mean`` and ``var``, shape ().
        total: Positions of all processes, shape ().

    Returns:
        Shape, type and memory format of ``x``. First derivatives only.
    """
    weight = torch.ones_like(mean) if weight is None else weight.to(mean.dtype)
    bias = torch.zeros_like(mean) if bias is None else bias.to(mean.dtype)
    out: Tensor = _JointNormalize.apply(x, weight, bias, mean, var, share, total, eps)
    return out
