"""Reading what the statistics need off a convolution and its input."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..ops import ConvCall
from ..ops.conv_call import Pair
from ..ops.torch_private import padding_of
from .effective_weight import effective_weight
from .padded_input import padded_input


def read_weights(conv: nn.Conv2d, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """Return the weight (C_out, C_in / groups, kh, kw) that ``conv`` uses and its bias, with their graph.

    Args:
        conv: Of a type that :func:`effective_weight` knows.
        dtype: In which to return them.

    Raises:
        RuntimeError: FSDP has taken the weight apart again.
    """
    if _is_sharded(conv.weight):
        raise RuntimeError(
            f'the weight of {conv} is sharded when the norm behind it needs it: wrap the module that holds '
            'both in FSDP, not the convolution alone'
        )
    return effective_weight(conv).to(dtype), None if conv.bias is None else conv.bias.to(dtype)


def read_call(conv: nn.Conv2d, x: Tensor, dtype: torch.dtype) -> ConvCall:
    """Return the call of ``conv`` on ``x``, with all padding but equal zeros on both sides put into ``x``.

    Args:
        conv: Of a type that :func:`effective_weight` knows.
        x: Its input, shape (N, C_in, H, W).
        dtype: Of the statistics, for weight and bias.
    """
    padded = padded_input(conv, x)
    if padded is not None:
        return ConvCall(padded, *read_weights(conv, dtype), pair(conv.stride), (0, 0), pair(conv.dilation))
    left, right, top, bottom = padding_of(conv)
    padding = (top, left)
    if conv.padding_mode != 'zeros':
        x, padding = F.pad(x, (left, right, top, bottom), mode=conv.padding_mode), (0, 0)
    elif (left, top) != (right, bottom):  # padding='same' of an even kernel
        x, padding = F.pad(x, (left, right, top, bottom)), (0, 0)
    return ConvCall(x, *read_weights(conv, dtype), pair(conv.stride), padding, pair(conv.dilation))


def pair(sizes: tuple[int, ...]) -> Pair:
    """Return height and width; ``nn.Conv2d`` declares its sizes as tuples of any length."""
    down, across = sizes
    return down, across


def _is_sharded(weight: Tensor) -> bool:
    """Recognize a DTensor (FSDP2), and the flat or freed parameters of FSDP1."""
    return hasattr(weight, 'device_mesh') or weight.dim() != 4 or not weight.untyped_storage().size()
