"""How a cross-iteration layer meets its convolution."""

from collections.abc import Iterator

from torch import nn

from .cross_iteration import CrossIterationBatchNorm2d
from .effective_weight import effective_weight
from .handover import Handover


def pair_conv_norm(model: nn.Module) -> dict[str, str]:
    """Tell every cross-iteration layer in ``model`` which convolution feeds it.

    A layer's convolution is the nearest one registered before it under the same parent: the rule by
    which mmcv fuses convolutions and BN. It gets a forward hook that hands its
    input over. Copies of the model (deepcopy, pickle) carry the pairing with them; pairing twice changes
    nothing.

    Args:
        model: Any module, ``ConvModule``, ResNet blocks and ``nn.Sequential`` included.

    Returns:
        Name of the convolution for the name of each cross-iteration layer.

    Raises:
        ValueError: A layer has no convolution before it, or one of another size.
        TypeError: ``model`` is no module, or a layer's convolution is not a ``nn.Conv2d``, or a subclass
            whose weight in use is unknown (see :func:`effective_weight`).
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f'model must be a torch.nn.Module, got {model!r}')
    pairs = [_checked(*pair) for pair in _pairs(model)]
    handovers = {norm.handover.conv: norm.handover for _, norm, _, _ in pairs if norm.handover is not None}
    for norm_name, norm, conv_name, conv in pairs:
        norm.pair(handovers.setdefault(conv, Handover(conv)), (norm_name, conv_name))
    return {norm_name: conv_name for norm_name, _, conv_name, _ in pairs}


def _pairs(
    model: nn.Module,
) -> Iterator[tuple[str, CrossIterationBatchNorm2d, str | None, nn.Module | None]]:
    for parent_name, parent in model.named_modules():
        prefix = f'{parent_name}.' if parent_name else ''
        conv_name = conv = None
        for name, child in parent.named_children():
            if isinstance(child, CrossIterationBatchNorm2d):
                yield prefix + name, child, conv_name, conv
            elif _is_convolution(child):
                conv_name, conv = prefix + name, child


def _is_convolution(module: nn.Module) -> bool:
    """Recognize convolutions of any library: transposed and deformable ones are no ``nn.Conv2d``."""
    return hasattr(module, 'kernel_size') and getattr(module, 'weight', None) is not None


def _checked(
    norm_name: str, norm: CrossIterationBatchNorm2d, conv_name: str | None, conv: nn.Module | None
) -> tuple[str, CrossIterationBatchNorm2d, str, nn.Conv2d]:
    kind = type(norm).__name__
    if conv is None or conv_name is None:
        raise ValueError(
            f'{norm_name} ({kind}) has no convolution registered before it under the same parent. '
            f'Register the convolution before the norm, or use another norm there.'
        )
    try:
        effective_weight(conv)
    except TypeError as error:
        raise TypeError(
            f'{norm_name} ({kind}) cannot be paired with {conv_name}: {error}. Use another norm there.'
        ) from None
    assert isinstance(conv, nn.Conv2d)  # nothing else has an effective weight
    if conv.out_channels != norm.num_features:
        raise ValueError(
            f'{norm_name} ({kind}) has {norm.num_features} channels, but {conv_name}, the convolution '
            f'registered before it, returns {conv.out_channels}. Register its own convolution before it, '
            'or use another norm there.'
        )
    return norm_name, norm, conv_name, conv
