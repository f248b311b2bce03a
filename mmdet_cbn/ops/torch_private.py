"""Calls of PyTorch that are not public, each with its reason. All were seen in torch 2.1 and 2.11."""

import torch
from torch import Tensor, nn

# What a layer counts and remembers on the host would be compiled anew in each iteration.
# torch.compiler.disable does the same, but takes a second for imports as soon as it decorates.
uncompiled = torch._disable_dynamo


def in_backward_pass() -> bool:
    """Tell whether autograd is at work: a forward pass there is one that activation checkpointing repeats."""
    return torch._C._current_graph_task_id() != -1


def padding_of(conv: nn.Conv2d) -> tuple[int, int, int, int]:
    """Return the padding left, right, above and below, in which 'same' and 'valid' are numbers already."""
    return tuple(conv._reversed_padding_repeated_twice)


def batch_norm_statistics(x: Tensor, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance of ``x`` per channel, in the type of ``mean`` and ``var``.

    ``torch.var_mean`` over three axes is several times as slow, and keeps the type of ``x``: what is given
    here for running values, which stay as they are, makes the kernel accumulate in float32 for half inputs.
    """
    return torch.batch_norm_update_stats(x, mean, var, 0.0)


def batch_norm_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    mean: Tensor,
    invstd: Tensor,
    needs: tuple[bool, bool, bool] = (True, True, True),
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Differentiate batch normalization by the batch's own statistics: by x, weight and bias.

    No public function takes mean and 1 / std from outside, and pieces put together by hand read ``x`` and
    ``grad`` twice as often.
    """
    return torch.ops.aten.native_batch_norm_backward(
        grad, x, weight, None, None, mean, invstd, True, 0.0, list(needs)
    )


def eval_batch_norm_backward(
    grad: Tensor, x: Tensor, weight: Tensor, mean: Tensor, var: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Differentiate batch normalization by given statistics: by x, weight and bias, in one pass."""
    return torch.ops.aten.native_batch_norm_backward(
        grad, x, weight, mean, var, None, None, False, eps, [True] * 3
    )
