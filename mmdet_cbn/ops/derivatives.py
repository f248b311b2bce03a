"""Derivatives of a layer's batch statistics with respect to the weights of its convolution.

For ``y = conv(x; w)`` channel j depends on the filter w_j alone, so the Jacobians of mean and variance
have one row a channel (CBN, arXiv 2002.05712, section 3.2). A bias needs no entry of its own: it adds
itself to the mean and leaves the variance alone.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import batch_norm
from torch.nn.grad import conv2d_weight

from .moments import batch_moments, statistics_dtype

Pair = tuple[int, int]


def _tap_mask(
    taps: int, size: int, out_size: int, stride: int, padding: int, dilation: int, like: Tensor
) -> Tensor:
    """Mark which of ``size`` input positions each kernel tap reads, over all ``out_size`` outputs."""
    padded = max(padding + size, (taps - 1) * dilation + (out_size - 1) * stride + 1)
    mask = like.new_zeros(taps, padded)
    # Output q reads position tap * dilation + q * stride of the padded input.
    mask.as_strided((taps, out_size), (padded + dilation, stride)).fill_(1)
    return mask[:, padding : padding + size]


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
    return patch.div_(x.size(0) * out_size[0] * out_size[1]).reshape(groups, -1)


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
    if y.dtype != mean.dtype:
        # A sum over 100,000 positions overflows float16, and bfloat16 has no digits left for a difference.
        return _covariance(x, y, mean, var, kernel_size, stride, padding, dilation, groups)
    product = _correlation(x, y, kernel_size, stride, padding, dilation, groups)
    # Not baddbmm_, which may take TF32 for an outer product that is to cancel.
    grouped = product.mul_(2 * y.size(1) / y.numel()).view(groups, -1, product.size(1))
    grouped.addcmul_(mean.reshape(groups, -1, 1), mean_derivative[:, None], value=-2)
    return product


def _correlation(
    x: Tensor, y: Tensor, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Tensor:
    """Return the sum over positions of y_j * patch, shape (C_out, D): a weight-gradient."""
    weight_shape = (y.size(1), x.size(1) // groups, *kernel_size)
    x = x.to(y.dtype)  # under autocast the convolution converted its input itself
    return conv2d_weight(x, weight_shape, y, stride, padding, dilation, groups).flatten(1)


def _covariance(
    x: Tensor, y: Tensor, mean: Tensor, var: Tensor, *geometry: Any, scale: Tensor | None = None
) -> Tensor:
    """Return 2 / M * sum over positions of (y_j - mean_j) * patch, times ``scale`` of shape (C_out,).

    Centred and scaled before the product.
    """
    eps, root = 1e-12, (y.numel() // y.size(1)) ** 0.5  # eps cancels
    scaled = batch_norm(y, mean, var, torch.full_like(mean, 1 / root), None, eps=eps)
    factor = 2 / root * (var + eps).sqrt()
    if scale is not None:
        factor *= scale
    return _correlation(x, scaled, *geometry).to(mean.dtype).mul_(factor[:, None])


def _evenly_spaced_part(
    x: Tensor, y: Tensor, fraction: float, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> tuple[Tensor, Tensor, Pair, Pair, Pair]:
    """Return part of the outputs with the inputs they read: those, and stride, padding, dilation for them.

    Every n-th image with n = round(1 / fraction), but at least four images, or every n-th row, but at least
    three: whichever leaves fewer positions. Rows that reach into the padding above or below are left out.
    """
    step = round(1 / fraction)
    of_images = min(step, y.size(0) // 4)
    extent = dilation[0] * (kernel_size[0] - 1) + 1
    first = -(-padding[0] // stride[0])
    last = (x.size(2) + padding[0] - extent) // stride[0]
    of_rows = min(step, (last - first + 1) // 3)
    if max(of_images, 1) >= of_rows:
        step = max(of_images, 1)
        return x[step // 2 :: step], y[step // 2 :: step], stride, padding, dilation
    step = of_rows
    first += (step - 1) // 2
    top = first * stride[0] - padding[0]
    taps = x[:, :, top:].unfold(2, extent, step * stride[0])[..., :: dilation[0]]  # (N, C, rows, W, taps)
    y = y[:, :, first::step][:, :, : taps.size(2)]
    x = taps.transpose(3, 4).flatten(2, 3)  # the taps of each row below each other, row after row
    return x, y, (kernel_size[0], stride[1]), (0, padding[1]), (1, dilation[1])


@torch.no_grad()
def estimate_variance_derivative(
    x: Tensor,
    y: Tensor,
    var: Tensor,
    fraction: float,
    kernel_size: Pair,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Tensor:
    """Estimate d var_j / d w_j from part of the positions.

    The variance of that part has its exact derivative taken, which is then scaled by var / var of the part.
    Thus <d var_j / d w_j, w_j> is 2 var_j as for the whole (without a bias var is quadratic in the weights):
    what rescales a filter is corrected without error, whichever the positions. The scale is at most
    1 / fraction, which holds it where a channel varies at the padding alone.

    Args:
        x: Input of the convolution, shape (N, C_in, H, W).
        y: Its output, shape (N, C_out, H_out, W_out).
        var: Biased variance of ``y``, shape (C_out,).
        fraction: Share of the positions to use, in (0, 1]: an evenly spaced part of the batch, at least four
            images, or of the rows, at least three. Where both are fewer, all positions.
        kernel_size: As in ``nn.Conv2d``, like stride, padding (zeros), dilation and groups.
        stride: See above.
        padding: See above.
        dilation: See above.
        groups: See above.

    Returns:
        Shape (C_out, C_in / groups * kh * kw), in :func:`statistics_dtype`.
    """
    x, y, *geometry = _evenly_spaced_part(x, y, fraction, kernel_size, stride, padding, dilation)
    y = y.contiguous()
    mean, part_var = batch_moments(y)
    scale = var / part_var.clamp(min=torch.finfo(var.dtype).tiny)
    # A channel that is all but constant in the part must not blow up what rounding left of it.
    scale = scale.clamp(max=1 / fraction)
    return _covariance(x, y, mean, part_var, kernel_size, *geometry, groups, scale=scale)
