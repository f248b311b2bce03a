"""The input of a convolution that pads in a way of its own."""

from functools import singledispatch

from torch import Tensor, nn
from torch.nn import functional as F

from .timm_layers import is_padded_conv


@singledispatch
def padded_input(conv: nn.Conv2d, x: Tensor) -> Tensor | None:
    """Return ``x`` with the padding that ``conv`` adds in its forward pass, None where ``nn.Conv2d`` adds it.

    Subclasses of ``nn.Conv2d`` that pad on the way register their own, beside their weight (see
    :func:`effective_weight`): ``@padded_input.register(MyConv2d)``. What it returns, convolved without
    padding by the same stride and dilation, must be the output of ``conv``.

    Args:
        conv: Of a type that :func:`effective_weight` knows.
        x: Its input, shape (N, C_in, H, W).
    """
    return same_padded_input(conv, x) if is_padded_conv(conv) else None


def same_padded_input(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Pad with zeros as TensorFlow's SAME: an output for each stride begun, an odd zero goes last."""
    padding: list[int] = []
    geometry = zip(x.shape[2:], conv.kernel_size, conv.stride, conv.dilation, strict=True)
    for size, kernel, stride, dilation in reversed(list(geometry)):
        outputs = -(-size // stride)
        zeros = max((outputs - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
        padding += [zeros // 2, zeros - zeros // 2]
    return F.pad(x, padding)
