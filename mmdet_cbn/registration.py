"""The names under which configs find the layers."""

from mmcv.cnn.bricks.conv2d_adaptive_padding import Conv2dAdaptivePadding
from mmcv.cnn.bricks.conv_ws import ConvAWS2d, ConvWS2d
from mmcv.cnn.bricks.wrappers import Conv2d
from mmengine.registry import MODELS
from torch import Tensor

from . import layers
from .layers.effective_weight import effective_weight, require_forward_of
from .layers.names import NORM_LAYERS
from .layers.padded_input import padded_input, same_padded_input


def register_all() -> None:
    """Register layers in MMEngine's root registry, where mmdet and every sister library look as well."""
    for name, layer in {**NORM_LAYERS, 'CenConv2d': layers.CenteredConv2d}.items():
        MODELS.register_module(name, module=layer)


@effective_weight.register
def _(conv: Conv2d) -> Tensor:
    require_forward_of(Conv2d, conv)
    return conv.weight  # mmcv's wrapper, whose own forward is for empty inputs in old PyTorch


@effective_weight.register
def _(conv: ConvWS2d) -> Tensor:
    require_forward_of(ConvWS2d, conv)
    flat = conv.weight.flatten(1)
    standardized = (flat - flat.mean(1, keepdim=True)) / (flat.std(1, keepdim=True) + conv.eps)
    return standardized.view_as(conv.weight)


@effective_weight.register
def _(conv: ConvAWS2d) -> Tensor:
    require_forward_of(ConvAWS2d, conv)
    return conv._get_weight(conv.weight)


@effective_weight.register
def _(conv: Conv2dAdaptivePadding) -> Tensor:
    require_forward_of(Conv2dAdaptivePadding, conv)
    return conv.weight  # of EfficientNet


padded_input.register(Conv2dAdaptivePadding, same_padded_input)
