"""Derivatives of a layer's batch statistics with respect to the weights of its convolution.

For ``y = conv(x; w)`` channel j depends on the filter w_j alone, so the Jacobians of mean and variance
have one row a channel (CBN, arXiv 2002.05712, section 3.2). A bias needs no entry of its own: it adds
itself to the mean and leaves the variance alone.
"""

import torch
from torch import Tensor
from torch.nn.functional import batch_norm
from torch.nn.grad import conv2d_weight

from .moments import statistics_dtype

Pair = tuple[int, int]


def _tap_mask(
    taps: int, size: int, out_size: int, stride: int, padding: int, dilation: int, like: Tensor
) -> Tensor:
    """Mark which of ``size`` input positions each kernel tap reads, over all ``out_size`` outputs."""
    tap = torch.arange(taps, device=like.device)[:, None]
    position = torch.arange(size, device=like.device)[None, :]
    offset = position + padding - tap * dilation
    read = (offset >= 0) & (offset <= (out_size - 1) * stride) & (offset % stride == 0)
    return read.to(like.dtype)


@torch.no_grad()
def mean_derivative(
    x: Tensor,
    out_size: Pair,
    kernel_size: Pair,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Tensor:
    """Compute d mean_j / d w_j, which is the mean input patch and the same for each j of a group.

    The mean over positions separates into sums over rows and columns, so it costs two small products
    instead of a convolution.

    Args:
        x: Input of the convolution, shape (N, C_in, H, W).
        out_size: Height and width of the convolution's output.
        kernel_size: As in ``nn.Conv2d``, like stride, padding (zeros), dilation and groups.
        stride: See above.
        padding: See above.
        dilation: See above.
        groups: See above.

    Returns:
        Shape (groups, C_in / groups * kh * kw), in :func:`statistics_dtype`.
    """
    total = x.sum(0, dtype=statistics_dtype(x))
    rows, columns = (
        _tap_mask(kernel_size[d], x.size(2 + d), out_size[d], stride[d], padding[d], dilation[d], total)
        for d in (0, 1)
    )
    patch = rows @ (total @ columns.T)
    return (patch / (x.size(0) * out_size[0] * out_size[1])).reshape(groups, -1)


@torch.no_grad()
def variance_derivative(
    x: Tensor,
    y: Tensor,
    mean: Tensor,
    var: Tensor,
    mean_derivative: Tensor,
    kernel_size: Pair,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Tensor:
    """Compute d var_j / d w_j = 2 / M * sum over positions of (y_j - mean_j) * patch.

    One convolution weight-gradient with ``y`` in the role of the output gradient. In the terms of the
    paper it is d nu / d w - 2 mu d mu / d w with nu the mean of squares.

    Args:
        x: Input of the convolution, shape (N, C_in, H, W).
        y: Its output, shape (N, C_out, H_out, W_out), N * H_out * W_out = M >= 1.
        mean: Mean of ``y``, shape (C_out,).
        var: Biased variance of ``y``, shape (C_out,).
        mean_derivative: What :func:`mean_derivative` returned.
        kernel_size: As in ``nn.Conv2d``, like stride, padding (zeros), dilation and groups.
        stride: See above.
        padding: See above.
        dilation: See above.
        groups: See above.

    Returns:
        Shape (C_out, C_in / groups * kh * kw), in :func:`statistics_dtype`.
    """
    positions = y.numel() // y.size(1)
    weight_shape = (y.size(1), x.size(1) // groups, *kernel_size)
    geometry = {'stride': stride, 'padding': padding, 'dilation': dilation, 'groups': groups}
    x = x.to(y.dtype)  # under autocast the convolution converted its input itself
    if y.dtype != mean.dtype:
        # Half precision: a sum over 100,000 positions overflows float16, and bfloat16 has no digits left for
        # the difference below. So centre and scale before the product; ``eps`` cancels.
        eps, root = 1e-12, positions**0.5
        scaled = batch_norm(y, mean, var, torch.full_like(mean, 1 / root), torch.zeros_like(mean), eps=eps)
        product = conv2d_weight(x, weight_shape, scaled, **geometry).flatten(1).to(mean.dtype)
        return product * (2 / root * (var + eps).sqrt())[:, None]
    product = conv2d_weight(x, weight_shape, y, **geometry).flatten(1).to(mean.dtype)
    drift = mean.reshape(groups, -1, 1) * mean_derivative[:, None]
    return product.mul_(2 / positions).sub_(drift.reshape_as(product), alpha=2)
