"""How a cross-iteration layer meets its convolution."""

from collections.abc import Iterator

from torch import nn

from .cross_iteration import CrossIterationBatchNorm2d
from .effective_weight import effective_weight
from .feeding_conv import feeds, registered_pairs
from .handover import Handover

Pair = tuple[str, CrossIterationBatchNorm2d, str, nn.Conv2d]


def pair_conv_norm(model: nn.Module) -> dict[str, str]:
    """Tell every cross-iteration layer in ``model`` which convolution feeds it.

    A layer's convolution is the nearest one registered before it under the same parent: the rule by
    which mmcv fuses convolutions and BN. Where there is none, it is the one whose output the layer gets in
    the forward pass around it, as far as ``torch.fx`` can trace that (Res2Net). A layer that is paired with
    a convolution of ``model`` already, as by :func:`convert_batch_norm`, keeps it. The convolution gets a
    forward hook that hands its input over. Copies of the model (deepcopy, pickle) carry the pairing with
    them; pairing twice changes nothing.

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
    return pair_all([_checked(*pair) for pair in _pairs(model)])


def pair_all(pairs: list[Pair]) -> dict[str, str]:
    """Pair each norm with its convolution, both with their names in the model: see :func:`pair_conv_norm`."""
    handovers = {norm.handover.conv: norm.handover for _, norm, _, _ in pairs if norm.handover is not None}
    for norm_name, norm, conv_name, conv in pairs:
        norm.pair(handovers.setdefault(conv, Handover(conv)), (norm_name, conv_name))
    return {norm_name: conv_name for norm_name, _, conv_name, _ in pairs}


def _pairs(model: nn.Module) -> Iterator[tuple[str, CrossIterationBatchNorm2d, str | None, nn.Module | None]]:
    """Yield the pairs there are, and of norms without one those of the rule."""
    names = {module: name for name, module in model.named_modules()}
    for norm_name, norm, conv_name, conv in registered_pairs(model, CrossIterationBatchNorm2d):
        if norm.handover is not None and norm.handover.conv in names:
            conv = norm.handover.conv
            conv_name = names[conv]
        elif conv is None:
            feed = feeds(model, {norm_name: norm})[norm_name]
            conv_name, conv = feed.name, feed.conv
        yield norm_name, norm, conv_name, conv


def _checked(
    norm_name: str, norm: CrossIterationBatchNorm2d, conv_name: str | None, conv: nn.Module | None
) -> Pair:
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
