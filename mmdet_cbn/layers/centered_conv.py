"""Convolution with centred filters, the other half of MABN."""

from typing import Any

import torch
from torch import Tensor, nn

from .conv_call import pair
from .effective_weight import effective_weight, require_forward_of


def _centre(weight: Tensor) -> Tensor:
    return weight - weight.mean(dim=(1, 2, 3), keepdim=True)


class _Centre(torch.autograd.Function):
    """Centring, which is its own derivative; autograd takes twice the operations."""

    generate_vmap_rule = True

    @staticmethod
    def forward(weight: Tensor) -> Tensor:
        return _centre(weight)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        centred: Tensor = _Centre.apply(grad)
        return centred

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        centred: Tensor = _Centre.apply(tangent)
        return centred


class CenteredConv2d(nn.Conv2d):
    """``nn.Conv2d`` that subtracts from each filter its mean (MABN, eq. 18).

    The mean runs over (C_in / groups, kh, kw). It makes the mean of the output small without measuring
    it, which is why MABN needs no mean. Arguments and shapes are those of ``nn.Conv2d``; the parameter
    ``weight`` is the one before centring.

    Folding a norm layer into it (mmcv's ``fuse_conv_bn``) scales whole filters, which centring commutes
    with, so the result is right. :func:`fold_centering` then makes a plain ``nn.Conv2d`` of it.

    Example:
        >>> conv = CenteredConv2d(3, 8, 3)
        >>> conv.centered_weight().mean(dim=(1, 2, 3)).abs().max() < 1e-6
        tensor(True)
    """

    def centered_weight(self) -> Tensor:
        """Return the weight in use, shape (C_out, C_in / groups, kh, kw)."""
        # Exporters do not take a function of one's own.
        plain = not self.training or torch.jit.is_tracing()
        weight: Tensor = _centre(self.weight) if plain else _Centre.apply(self.weight)
        return weight

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``x`` (N, C_in, H, W) with the centred weight."""
        out: Tensor = self._conv_forward(x, self.centered_weight(), self.bias)
        return out


@effective_weight.register
def _(conv: CenteredConv2d) -> Tensor:
    require_forward_of(CenteredConv2d, conv)
    return conv.centered_weight()


@torch.no_grad()
def fold_centering(model: nn.Module) -> nn.Module:
    """Replace every :class:`CenteredConv2d` in ``model`` by an ``nn.Conv2d`` that computes the same.

    For inference and export, in place, before or after ``fuse_conv_bn``.

    Args:
        model: Any module; returned as it is, or replaced when it is a ``CenteredConv2d`` itself.

    Returns:
        The model without centred convolutions.
    """
    if isinstance(model, CenteredConv2d):
        plain = nn.Conv2d(
            model.in_channels,
            model.out_channels,
            pair(model.kernel_size),
            pair(model.stride),
            model.padding if isinstance(model.padding, str) else pair(model.padding),
            pair(model.dilation),
            model.groups,
            model.bias is not None,
            model.padding_mode,
            device='meta',
        )
        plain.weight = nn.Parameter(model.centered_weight(), model.weight.requires_grad)
        plain.bias = model.bias
        return plain.train(model.training)
    for name, child in model.named_children():
        setattr(model, name, fold_centering(child))
    return model
