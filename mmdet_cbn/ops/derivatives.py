"""Derivatives of a layer's batch statistics with respect to the weights of its convolution.

For ``y = conv(x; w)`` channel j depends on the filter w_j alone, so the Jacobians of mean and variance
have one row a channel (CBN, arXiv 2002.05712, section 3.2). A bias needs no entry of its own: it adds
itself to the mean and leaves the variance alone.
"""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import batch_norm
from torch.nn.grad import conv2d_weight

from .conv_call import ConvCall, Pair
from .moments import Moments, batch_moments, statistics_dtype


class Derivatives(NamedTuple):
    """Derivatives by the weights, with D = C_in / groups * kh * kw.

    Attributes:
        mean: Of the mean, shape (groups, D): the same for all channels of a group.
        var: Of the biased variance, shape (C_out, D).
    """

    mean: Tensor
    var: Tensor


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
def mean_derivative(call: ConvCall, out_size: Pair) -> Tensor:
    """Compute d mean_j / d w_j, which is the mean input patch and the same for each j of a group.

    The mean over positions separates into sums over rows and columns, so it costs two small products
    instead of a convolution.

    Args:
        call: The call of the convolution.
        out_size: Height and width of its output.

    Returns:
        Shape (groups, D), D = C_in / groups * kh * kw, in :func:`statistics_dtype`.
    """
    x = call.x
    total = x.sum(0, dtype=statistics_dtype(x))
    rows, columns = (
        _tap_mask(
            call.kernel_size[d],
            x.size(2 + d),
            out_size[d],
            call.stride[d],
            call.padding[d],
            call.dilation[d],
            total,
        )
        for d in (0, 1)
    )
    patch = rows @ (total @ columns.T)
    return patch.div_(x.size(0) * out_size[0] * out_size[1]).reshape(call.groups, -1)


@torch.no_grad()
def variance_derivative(call: ConvCall, y: Tensor, moments: Moments, mean_derivative: Tensor) -> Tensor:
    """Compute d var_j / d w_j = 2 / M * sum over positions of (y_j - mean_j) * patch.

    One convolution weight-gradient with ``y`` in the role of the output gradient. In the terms of the
    paper it is d nu / d w - 2 mu d mu / d w with nu the mean of squares.

    Args:
        call: The call of the convolution.
        y: Its output, shape (N, C_out, H_out, W_out), N * H_out * W_out = M >= 1.
        moments: Mean and biased variance of ``y``.
        mean_derivative: What :func:`mean_derivative` returned.

    Returns:
        Shape (C_out, D), in :func:`statistics_dtype`.
    """
    if y.dtype != moments.mean.dtype:
        # A sum over 100,000 positions overflows float16, and bfloat16 has no digits left for a difference.
        return _covariance(call, y, moments)
    product = _correlation(call, y)
    # Not baddbmm_, which may take TF32 for an outer product that is to cancel.
    grouped = product.mul_(2 * y.size(1) / y.numel()).view(call.groups, -1, product.size(1))
    grouped.addcmul_(moments.mean.reshape(call.groups, -1, 1), mean_derivative[:, None], value=-2)
    return product


def _correlation(call: ConvCall, y: Tensor) -> Tensor:
    """Return the sum over positions of y_j * patch, shape (C_out, D): a weight-gradient."""
    x = call.x.to(y.dtype)  # under autocast the convolution converted its input itself
    shape = tuple(call.weight.shape)
    return conv2d_weight(x, shape, y, call.stride, call.padding, call.dilation, call.groups).flatten(1)


def _covariance(call: ConvCall, y: Tensor, moments: Moments, scale: Tensor | None = None) -> Tensor:
    """Return 2 / M * sum over positions of (y_j - mean_j) * patch, times ``scale`` of shape (C_out,).

    Centred and scaled before the product.
    """
    mean, var = moments
    eps, root = 1e-12, (y.numel() // y.size(1)) ** 0.5  # eps cancels
    scaled = batch_norm(y, mean, var, torch.full_like(mean, 1 / root), None, eps=eps)
    factor = 2 / root * (var + eps).sqrt()
    if scale is not None:
        factor *= scale
    return _correlation(call, scaled).to(mean.dtype).mul_(factor[:, None])


def _evenly_spaced_part(call: ConvCall, y: Tensor, fraction: float) -> tuple[ConvCall, Tensor]:
    """Return part of the outputs, and the call that made them of the inputs they read.

    Every n-th image with n = round(1 / fraction), but at least four images, or every n-th row, but at least
    three: whichever leaves fewer positions. Rows that reach into the padding above or below are left out.
    """
    x, (stride, _), (padding, padding_across) = call.x, call.stride, call.padding
    step = round(1 / fraction)
    of_images = min(step, y.size(0) // 4)
    extent = call.dilation[0] * (call.kernel_size[0] - 1) + 1
    first = -(-padding // stride)
    last = (x.size(2) + padding - extent) // stride
    of_rows = min(step, (last - first + 1) // 3)
    if max(of_images, 1) >= of_rows:
        step = max(of_images, 1)
        return replace(call, x=x[step // 2 :: step]), y[step // 2 :: step]
    step = of_rows
    first += (step - 1) // 2
    top = first * stride - padding
    taps = x[:, :, top:].unfold(2, extent, step * stride)[..., :: call.dilation[0]]  # (N, C, rows, W, taps)
    y = y[:, :, first::step][:, :, : taps.size(2)]
    below_each_other = replace(
        call,
        x=taps.transpose(3, 4).flatten(2, 3),  # the taps of each row below each other, row after row
        stride=(call.kernel_size[0], call.stride[1]),
        padding=(0, padding_across),
        dilation=(1, call.dilation[1]),
    )
    return below_each_other, y


@torch.no_grad()
def estimate_variance_derivative(call: ConvCall, y: Tensor, var: Tensor, fraction: float) -> Tensor:
    """Estimate d var_j / d w_j from part of the positions.

    The variance of that part has its exact derivative taken, which is then scaled by var / var of the part.
    Thus <d var_j / d w_j, w_j> is 2 var_j as for the whole (without a bias var is quadratic in the weights):
    what rescales a filter is corrected without error, whichever the positions. The scale is at most
    1 / fraction, which holds it where a channel varies at the padding alone.

    Args:
        call: The call of the convolution.
        y: Its output, shape (N, C_out, H_out, W_out).
        var: Biased variance of ``y``, shape (C_out,).
        fraction: Share of the positions to use, in (0, 1]: an evenly spaced part of the batch, at least four
            images, or of the rows, at least three. Where both are fewer, all positions.

    Returns:
        Shape (C_out, D), D = C_in / groups * kh * kw, in :func:`statistics_dtype`.
    """
    part, y = _evenly_spaced_part(call, y, fraction)
    y = y.contiguous()
    moments = batch_moments(y)
    scale = var / moments.var.clamp(min=torch.finfo(var.dtype).tiny)
    # A channel that is all but constant in the part must not blow up what rounding left of it.
    return _covariance(part, y, moments, scale.clamp(max=1 / fraction))
