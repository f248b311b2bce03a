"""Putting a layer of this package in the place of every batch norm of a model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.lazy import LazyModuleMixin

from . import timm_layers
from .arguments import check_choice
from .averaged import AveragedBatchNorm2d
from .centered_conv import CenteredConv2d
from .cross_iteration import CrossIterationBatchNorm2d
from .effective_weight import effective_weight
from .feeding_conv import Feed, feeds
from .moving_average import MovingAverageBatchNorm2d
from .names import NORM_LAYERS
from .pairing import pair_all
from .stateful_norm import StatefulNorm


@dataclass(frozen=True)
class Conversion:
    """What :func:`convert_batch_norm` did.

    Attributes:
        replaced: For the name of each batch norm that was replaced, the name of the convolution that feeds
            it; None where none does, which all but CBN and MABN do without.
        left: For the name of each norm that was left as it was, why.
        centred: Names of the convolutions that became :class:`CenteredConv2d`.
    """

    replaced: dict[str, str | None]
    left: dict[str, str]
    centred: tuple[str, ...]

    def __str__(self) -> str:
        """Summarize in a line, and a line for each norm that was left."""
        lines = [f'{len(self.replaced)} of {len(self.replaced) + len(self.left)} batch norms replaced']
        return '\n'.join(lines + [f'  {name} was left: {why}' for name, why in self.left.items()])


def convert_batch_norm(
    model: nn.Module, norm: str = 'CBN', include_frozen: bool = False, **arguments: Any
) -> Conversion:
    """Replace every ``nn.BatchNorm2d`` of ``model`` that can be replaced, in place.

    The sister of ``nn.SyncBatchNorm.convert_sync_batchnorm``, for models of torchvision, timm, MMDetection or
    one's own. A layer takes over parameters (the very same, so optimizers go on), running statistics, eps,
    device, type and mode of the batch norm, and but for AvgBN and MABN its momentum. Layers that need their
    convolution are paired with it; before MABN it becomes a :class:`CenteredConv2d`. In eval mode the model
    computes what it did, except that MABN's convolutions have centred filters now.

    CBN and MABN directly follow a convolution, which is found without an input: by tracing each module's
    forward pass, or where that cannot be traced by the order of registration. Batch norms elsewhere are left
    (the other layers replace them all the same), as are frozen ones: in eval mode in a model that trains, in
    eval mode without a parameter that requires a gradient, or with buffers for parameters.

    Args:
        model: Any module.
        norm: 'CBN', 'NaiveCBN', 'CmBN', 'AvgBN', 'MABN', 'BRN', 'GhostBN', 'GhostMABN' or 'GhostBRN'.
        include_frozen: Whether to replace frozen ones as well. Those with buffers get parameters, to be
            learned.
        **arguments: Of the layer, such as ``window_size=8``.

    Returns:
        What was replaced, and what was left and why.

    Raises:
        TypeError: ``model`` is no module; the layer knows no such argument.
        ValueError: ``norm`` is no name of a layer; an argument is out of its range.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.BatchNorm1d(8))
        >>> print(convert_batch_norm(model, 'CBN', window_size=8))
        1 of 2 batch norms replaced
          3 was left: BatchNorm1d is not two-dimensional
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f'model must be a torch.nn.Module, got {model!r}')
    check_choice('norm', norm, tuple(NORM_LAYERS))
    layer = NORM_LAYERS[norm]
    layer(1, **arguments)  # an argument that is wrong is wrong for all of them
    places = _places(model)
    batch_norms = dict(_batch_norms(model))
    reasons = {
        name: _unfit(old, places[old], _is_frozen(old, model) and not include_frozen)
        for name, old in batch_norms.items()
    }
    found = feeds(model, {name: old for name, old in batch_norms.items() if not reasons[name]})
    replaced: dict[str, str | None] = {}
    pairs: list[Any] = []
    centred: list[Any] = []
    for name, feed in found.items():
        old = batch_norms[name]
        reasons[name] = _misfed(layer, old, feed)
        if reasons[name]:
            continue
        try:
            new = _take_over(old, layer, arguments, feed)
        except ValueError as error:  # of what the batch norm has, such as no running statistics
            reasons[name] = str(error)
            continue
        for parent, child in places[old]:
            setattr(parent, child, new)
        replaced[name] = feed.name
        if issubclass(layer, CrossIterationBatchNorm2d):
            pairs.append((name, new, feed.name, feed.conv))
        elif issubclass(layer, MovingAverageBatchNorm2d) and type(feed.conv) is nn.Conv2d:
            feed.conv.__class__ = CenteredConv2d  # it keeps parameters, hooks, and all who share it
            centred.append(feed.name)
    pair_all(pairs)
    return Conversion(replaced, {name: why for name, why in reasons.items() if why}, tuple(centred))


def _places(model: nn.Module) -> dict[nn.Module, list[tuple[nn.Module, str]]]:
    """Return for each module the parents that hold it, and under which names."""
    places: dict[nn.Module, list[tuple[nn.Module, str]]] = {model: []}
    for parent in model.modules():
        for name, child in parent._modules.items():
            if child is not None:
                places.setdefault(child, []).append((parent, name))
    return places


def _batch_norms(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, module in model.named_modules():
        if (isinstance(module, _BatchNorm) and not isinstance(module, StatefulNorm)) or _has_buffers(module):
            yield name, module


def _has_buffers(module: nn.Module) -> bool:
    """Recognize the frozen batch norms of torchvision, timm and detectron2, whose parameters are buffers."""
    return {'weight', 'bias', 'running_mean', 'running_var'} <= module._buffers.keys()


def _is_frozen(norm: nn.Module, model: nn.Module) -> bool:
    if norm.training and not _has_buffers(norm):
        return False
    of_parameters = [parameter.requires_grad for parameter in norm.parameters()]
    return _has_buffers(norm) or model.training or (bool(of_parameters) and not any(of_parameters))


def _unfit(old: nn.Module, places: list[tuple[nn.Module, str]], frozen: bool) -> str:
    """Say why a norm of this kind cannot be replaced anywhere, nothing where it can."""
    kind = type(old).__name__
    if frozen:
        return 'it is frozen'
    if isinstance(old, LazyModuleMixin):
        return f'{kind} has no size yet; run the model once before'
    if not _has_buffers(old) and not isinstance(old, nn.BatchNorm2d | nn.SyncBatchNorm):
        return f'{kind} is not two-dimensional'
    plain = type(old).forward is nn.BatchNorm2d.forward or _has_buffers(old)
    if not plain and not timm_layers.is_norm_with_activation(old):
        return f'{kind} has a forward pass of its own'
    if not places:
        return 'it is the model itself'
    if len(places) > 1:
        return f'it is shared by {len(places)} modules'
    if old._forward_hooks or old._forward_pre_hooks or old._backward_hooks:
        return 'it has hooks, which would be lost'
    return ''


def _misfed(layer: type[Any], old: nn.Module, feed: Feed) -> str:
    """Say why what feeds a norm keeps it from being a ``layer``, nothing where it does not."""
    if not issubclass(layer, CrossIterationBatchNorm2d | MovingAverageBatchNorm2d):
        return ''
    if feed.conv is None:
        return feed.reason
    try:
        weight = effective_weight(feed.conv)
    except TypeError as error:
        return f'{feed.name}: {error}'
    if feed.conv.out_channels != _channels(old):
        return f'{feed.name}, the convolution registered before it, has another number of channels'
    if issubclass(layer, MovingAverageBatchNorm2d):
        kind = type(feed.conv).__name__
        if type(feed.conv) not in (nn.Conv2d, CenteredConv2d):
            return f'the filters of {feed.name} ({kind}) cannot be centred'
        if weight[0].numel() == 1:
            return f'the filters of {feed.name} have one weight, which centring would make 0'
        if feed.shared:
            return f'centring {feed.name} would change what reads its output beside the norm'
    return ''


def _take_over(old: Any, layer: type[Any], arguments: dict[str, Any], feed: Feed) -> Any:
    """Build a layer that holds the tensors of a batch norm.

    Raises:
        ValueError: The layer cannot do what the batch norm does.
    """
    frozen = _has_buffers(old)
    settings: dict[str, Any] = {'eps': old.eps}
    if not frozen:
        settings |= {'affine': old.affine, 'track_running_stats': old.track_running_stats}
        if not issubclass(layer, (AveragedBatchNorm2d, MovingAverageBatchNorm2d)):  # meant for small batches
            settings['momentum'] = old.momentum
    of_conv = [] if feed.conv is None else feed.conv.parameters()
    like = next((t for t in (old.weight, old.running_var, *of_conv) if t is not None), None)
    if like is not None:
        settings |= {'device': like.device, 'dtype': like.dtype}
    new = layer(_channels(old), **{**settings, **arguments})
    for name, value in (old._buffers | old._parameters).items():
        if value is not None:
            is_buffer = name in new._buffers
            setattr(new, name, value if is_buffer or isinstance(value, nn.Parameter) else nn.Parameter(value))
    if timm_layers.is_norm_with_activation(old):
        timm_layers.move_activation(old, new)
    return new.train(old.training)


def _channels(old: Any) -> int:
    channels: int = old.weight.numel() if _has_buffers(old) else old.num_features
    return channels
