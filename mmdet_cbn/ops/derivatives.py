"""Derivatives of a layer's batch statistics with respect to the weights of its convolution.

For ``y = conv(x; w)`` channel j depends on the filter w_j alone, so the Jacobians of mean and variance
have one row a channel (CBN, arXiv 2002.05712, section 3.2). A bias needs no entry of its own: it adds
itself to the mean and leaves the variance alone.
"""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import batch_norm, pad

from .conv_call import ConvCall, Pair
from .moments import Moments, batch_moments, statistics_dtype
from .torch_private import conv_weight_gradient, products_are_exact


class Derivatives(NamedTuple):
    """Derivatives by the weights, with D = C_in / groups * kh * kw.

    Attributes:
        mean: Of the mean, shape (groups, D): the same for all channels of a group.
        var: Of the biased variance, shape (C_out, D).
    """

    mean: Tensor
    var: Tensor


def _taps(total: Tensor, axis: int, taps: int, out_size: int, stride: int, dilation: int) -> Tensor:
    """View an axis of positions as two: the taps of the kernel, and the positions that each of them reads."""
    sizes, strides = list(total.size()), list(total.stride())
    # Output q reads position tap * dilation + q * stride.
    sizes[axis : axis + 1] = taps, out_size
    strides[axis : axis + 1] = dilation * strides[axis], stride * strides[axis]
    return total.as_strided(sizes, strides)


@torch.no_grad()
def mean_derivative(call: ConvCall, out_size: Pair) -> Tensor:
    """Compute d mean_j / d w_j, which is the mean input patch and the same for each j of a group.

    The mean over positions is one over rows and one over columns, so it costs two small sums instead of a
    convolution.

    Args:
        call: The call of the convolution.
        out_size: Height and width of its output.

    Returns:
        Shape (groups, D), D = C_in / groups * kh * kw, in :func:`statistics_dtype`.
    """
    x, (down, across) = call.x, call.padding
    if _is_pointwise(call):
        return x.mean((0, 2, 3), dtype=statistics_dtype(x))[None]
    # In the order in which the memory has them: a sum that changes it takes ten times as long on CPUs.
    channels_last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    patch = (x.permute(0, 2, 3, 1) if channels_last else x).mean(0, dtype=statistics_dtype(x))
    if down or across:
        patch = pad(patch, (0, 0) * channels_last + (across, across, down, down))
    for d, axis in enumerate((0, 1) if channels_last else (1, 2)):
        positions = _taps(patch, axis, call.kernel_size[d], out_size[d], call.stride[d], call.dilation[d])
        patch = positions.mean(axis + 1)
    return (patch.permute(2, 0, 1) if channels_last else patch).reshape(call.groups, -1)


@torch.no_grad()
def variance_derivative(
    call: ConvCall, y: Tensor, moments: Moments, mean_derivative: Tensor, centre: Tensor | None = None
) -> Tensor:
    """Compute d var_j / d w_j = 2 / M * sum over positions of (y_j - mean_j) * patch.

    One convolution weight-gradient with ``y`` in the role of the output gradient. In the terms of the
    paper it is d nu / d w - 2 mu d mu / d w with nu the mean of squares.

    Args:
        call: The call of the convolution.
        y: Its output, shape (N, C_out, H_out, W_out), N * H_out * W_out = M >= 1.
        moments: Mean and biased variance of ``y``.
        mean_derivative: What :func:`mean_derivative` returned.
        centre: Shape (C_out,), a constant in the place of the mean: the derivative is that of the mean of
            squares about it.

    Returns:
        Shape (C_out, D), in :func:`statistics_dtype`.
    """
    centre = moments.mean if centre is None else centre
    if y.dtype != moments.mean.dtype:
        # A sum over 100,000 positions overflows float16, and bfloat16 has no digits left for a difference.
        return move_centre(_covariance(call, y, moments), mean_derivative, moments.mean, centre)
    factor = 2 * y.size(1) / y.numel()
    if not products_are_exact(y):
        return _correlation(call, y - centre[:, None, None]).mul_(factor)
    # Centred behind the product, which spares a pass over y.
    product = _correlation(call, y)
    grouped = product.view(call.groups, -1, product.size(1))
    grouped.baddbmm_(centre.view(call.groups, -1, 1), mean_derivative[:, None], beta=factor, alpha=-2)
    return product


def _correlation(call: ConvCall, y: Tensor) -> Tensor:
    """Return the sum over positions of y_j * patch, shape (C_out, D): a weight-gradient."""
    x = call.x.to(y.dtype)  # under autocast the convolution converted its input itself
    if y.dtype == statistics_dtype(y) and products_are_exact(y) and _is_pointwise(call):
        # Down to half the time of a convolution's weight-gradient on CPUs.
        if x[0, 0].numel() >= 256:
            return torch.bmm(y.flatten(2), x.flatten(2).transpose(1, 2)).sum(0)
        return y.transpose(0, 1).flatten(1) @ x.transpose(0, 1).flatten(1).t()
    geometry = call.stride, call.padding, call.dilation, call.groups
    return conv_weight_gradient(y, x, call.weight.to(y.dtype), *geometry).flatten(1)


def _is_pointwise(call: ConvCall) -> bool:
    """Tell whether each output position reads the input at that position alone, and all its channels."""
    return call.kernel_size == call.stride == (1, 1) and call.padding == (0, 0) and call.groups == 1


def _covariance(call: ConvCall, y: Tensor, moments: Moments) -> Tensor:
    """Return 2 / M * sum over positions of (y_j - mean_j) * patch, centred and scaled before the product."""
    mean, var = moments
    eps, positions = 1e-12, y.numel() // y.size(1)  # eps cancels
    # A sum over M positions grows up to M: scaled by M^(-1/2) it overflows float16, by 1 / M it underflows.
    scale = positions**-0.75
    scaled = batch_norm(y, mean, var, torch.full_like(mean, scale), None, eps=eps)
    factor = 2 / (positions * scale) * (var + eps).sqrt()
    return _correlation(call, scaled).to(mean.dtype).mul_(factor[:, None])


def move_centre(derivative: Tensor, mean_derivative: Tensor, old: Tensor, new: Tensor) -> Tensor:
    """Turn the derivative of a mean of squares about one centre into that about another, in place.

    Args:
        derivative: Shape (C_out, D).
        mean_derivative: Shape (groups, D).
        old: Shape (C_out,).
        new: Shape (C_out,).

    Returns:
        ``derivative``.
    """
    if new is not old:
        grouped = derivative.view(mean_derivative.size(0), -1, derivative.size(1))
        step = (old - new).view(grouped.size(0), -1, 1)
        grouped.addcmul_(step, mean_derivative[:, None], value=2)
    return derivative


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
    of_part = batch_moments(y)
    scale = var / of_part.var.clamp(min=torch.finfo(var.dtype).tiny)
    # A channel that is all but constant in the part must not blow up what rounding left of it.
    scale = scale.clamp(max=1 / fraction).mul_(2 * y.size(1) / y.numel())
    return _correlation(part, y - of_part.mean[:, None, None]).mul_(scale[:, None])
