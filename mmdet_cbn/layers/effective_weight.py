"""The weight that a convolution multiplies its input with."""

from functools import singledispatch

from torch import Tensor, nn

from .timm_layers import is_padded_conv


@singledispatch
def effective_weight(conv: nn.Module) -> Tensor:
    """Return the weight that ``conv`` uses, shape (C_out, C_in / groups, kh, kw).

    Subclasses of ``nn.Conv2d`` that change the weight on the way register their own:
    ``@effective_weight.register(MyConv2d)``. Those that pad in their forward pass register that as well: see
    :func:`padded_input`.

    Args:
        conv: A ``nn.Conv2d`` or subclass.

    Raises:
        TypeError: ``conv`` is no ``nn.Conv2d``, or a subclass with a forward pass of its own that is not
            registered.
    """
    raise TypeError(f'{type(conv).__name__} is not a torch.nn.Conv2d')


def require_forward_of(base: type[nn.Conv2d], conv: nn.Conv2d) -> None:
    """Raise TypeError where ``conv``, of a subclass of ``base``, does something else in its forward pass."""
    for method in ('forward', '_conv_forward'):
        if getattr(type(conv), method) is not getattr(base, method):
            raise TypeError(
                f'{type(conv).__name__} has a {method} of its own, so the weight that it uses is unknown; '
                'register it with mmdet_cbn.layers.effective_weight.register'
            )


@effective_weight.register
def _(conv: nn.Conv2d) -> Tensor:
    if not is_padded_conv(conv):
        require_forward_of(nn.Conv2d, conv)
    return conv.weight
