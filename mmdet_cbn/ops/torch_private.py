"""Calls of PyTorch that are not public, each with its reason. All were seen in torch 2.1 and 2.11."""

from typing import Literal, overload

import torch
from torch import Tensor, nn

# What a layer counts and remembers on the host would be compiled anew in each iteration.
# torch.compiler.disable does the same, but takes a second for imports as soon as it decorates.
uncompiled = torch._disable_dynamo


def is_exporting() -> bool:
    """Tell whether ``torch.export`` is at work; torch before 2.7 does not say so."""
    return hasattr(torch.compiler, 'is_exporting') and torch.compiler.is_exporting()


def backward_pass() -> int | None:
    """Return the number of the backward pass that is at work, None outside of one.

    A forward pass within is one that activation checkpointing repeats.
    """
    number = torch._C._current_graph_task_id()
    return None if number == -1 else number


def padding_of(conv: nn.Conv2d) -> tuple[int, int, int, int]:
    """Return the padding left, right, above and below, in which 'same' and 'valid' are numbers already."""
    left, right, top, bottom = conv._reversed_padding_repeated_twice
    return left, right, top, bottom


def batch_norm_statistics(
    x: Tensor, mean: Tensor | None, var: Tensor | None, momentum: float
) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance of ``x`` per channel, and move ``mean`` and ``var`` as BN does.

    ``torch.var_mean`` over three axes is several times as slow, and keeps the type of ``x``: running values
    of float32 make this kernel accumulate in float32 for half inputs.
    """
    return torch.batch_norm_update_stats(x, mean, var, momentum)


def eval_batch_norm(x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, eps: float) -> Tensor:
    """Normalize by given statistics; ``F.batch_norm`` allocates a buffer for cuDNN besides."""
    return torch.native_batch_norm(x, weight, bias, mean, var, False, 0.0, eps)[0]


@overload
def batch_norm_backward(
    grad: Tensor, x: Tensor, weight: Tensor, mean: Tensor, invstd: Tensor
) -> tuple[Tensor, Tensor, Tensor]: ...
@overload
def batch_norm_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    mean: Tensor,
    invstd: Tensor,
    needs: tuple[Literal[False], Literal[True], Literal[True]],
) -> tuple[None, Tensor, Tensor]: ...
@overload
def batch_norm_backward(
    grad: Tensor, x: Tensor, weight: Tensor, mean: Tensor, invstd: Tensor, needs: tuple[bool, bool, bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]: ...
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
    grads: tuple[Tensor | None, Tensor | None, Tensor | None] = torch.ops.aten.native_batch_norm_backward(
        grad, x, weight, None, None, mean, invstd, True, 0.0, list(needs)
    )
    return grads


@overload
def eval_batch_norm_backward(
    grad: Tensor, x: Tensor, weight: Tensor, mean: Tensor, var: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]: ...
@overload
def eval_batch_norm_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    mean: Tensor,
    var: Tensor,
    eps: float,
    needs: tuple[Literal[False], Literal[True], Literal[False]],
) -> tuple[None, Tensor, None]: ...
def eval_batch_norm_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    mean: Tensor,
    var: Tensor,
    eps: float,
    needs: tuple[bool, bool, bool] = (True, True, True),
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Differentiate batch normalization by given statistics: by x, weight and bias, in one pass.

    CUDA takes mean and 1 / std of what is given here as well, but asserts that the batch's are there.
    """
    grads: tuple[Tensor | None, Tensor | None, Tensor | None] = torch.ops.aten.native_batch_norm_backward(
        grad, x, weight, mean, var, mean, var, False, eps, list(needs)
    )
    return grads


def conv_weight_gradient(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> Tensor:
    """Return the gradient of a convolution's weight, of shape and type of ``weight``.

    ``torch.nn.grad.conv2d_weight`` is the same for a shape, of which it allocates a weight first.
    """
    gradient: Tensor = torch.ops.aten.convolution_backward(
        grad, x, weight, None, stride, padding, dilation, False, [0, 0], groups, [False, True, False]
    )[1]
    return gradient


def products_are_exact(like: Tensor) -> bool:
    """Tell whether matrix products with ``like`` certainly keep the digits of its type.

    CUDA may take TF32, by one of several settings, and CPUs bfloat16; torch 2.9 and later refuse to say where
    the settings are of two generations.
    """
    if like.is_cuda:
        return False
    try:
        return torch.get_float32_matmul_precision() != 'medium'
    except RuntimeError:
        return False
