"""Building the model of a config before anything else, to find what is wrong in its layers."""

import inspect
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from mmengine.config import Config
from mmengine.registry import HOOKS, MODELS
from torch import nn

from ..hooks import CrossIterationHook
from ..layers import (
    CenteredConv2d,
    CrossIterationBatchNorm2d,
    CrossMiniBatchNorm2d,
    MovingAverageBatchNorm2d,
    StatefulNorm,
    pair_conv_norm,
)
from ..registration import NORM_LAYERS
from .config_walk import walk
from .errors import LaunchError, warn_user
from .explanations import describe, place_in_config
from .registries import find_type

_NORMS = [*NORM_LAYERS, 'BN', 'SyncBN', 'GN', 'IN', 'LN']


def check_model(cfg: Config, training: bool) -> nn.Module:
    """Build the model that a config describes, and in training check what feeds its norm layers.

    Args:
        cfg: A whole config; it is not changed.
        training: Whether the model is going to be trained.

    Returns:
        The model on the CPU, with random weights.

    Raises:
        LaunchError: A layer is unknown, gets wrong arguments, or has no convolution that it could work with.
    """
    for place, value in walk(cfg.model, 'model'):
        if place.endswith(('norm_cfg', 'conv_cfg')) and value is not None:
            _check_layer(place, value)
    try:
        model = MODELS.build(deepcopy(cfg.model))
    except Exception as error:  # constructors of any library
        raise LaunchError(
            f'cannot build the model ({place_in_config(error)}): {describe(error)}; correct it in the config'
        ) from error
    if training:
        model.train()
        _check_sync_bn(cfg, model)
        _check_pairs(cfg, model)
        _check_centring(model)
    return model


def check_classes(model: nn.Module, classes: Sequence[str]) -> None:
    """Check that heads predict as many classes as the data have; MMDetection leaves that to the user.

    Args:
        model: A detector. Heads of RPN, semantic and class-agnostic ones count classes in their own way.
        classes: Names of the classes.

    Raises:
        LaunchError: A head has another number of classes.
    """
    for name, head in model.named_modules():
        number = getattr(head, 'num_classes', None)
        counts = re.search(r'(bbox|mask)_head(\.\d+)?$', name) and not getattr(head, 'class_agnostic', False)
        if counts and isinstance(number, int) and number != len(classes):
            raise LaunchError(
                f'{name} has num_classes={number}, and the data set {len(classes)} classes '
                f'({", ".join(classes[:3])}, ...): set num_classes of every head to their number, and '
                'metainfo=dict(classes=...) of every data set to their names'
            )


def _check_layer(place: str, layer: Any) -> None:
    is_norm = place.endswith('norm_cfg')
    example = "dict(type='CBN', window_size=4)" if is_norm else "dict(type='CenConv2d')"
    if not isinstance(layer, Mapping) or 'type' not in layer:
        raise LaunchError(f'{place}={layer!r} must be a dictionary with a type, e.g. {example}')
    kind = layer['type']
    find_type(MODELS, kind, place, _NORMS if is_norm else ['CenConv2d'])
    if kind in NORM_LAYERS:
        arguments = {k: v for k, v in layer.items() if k not in ('type', 'requires_grad', '_scope_')}
        known = _arguments(NORM_LAYERS[kind])
        unknown = ', '.join(f'{name}={value!r}' for name, value in arguments.items() if name not in known)
        if unknown:
            raise LaunchError(f'{place}: {kind} has no argument {unknown}; it takes {", ".join(known)}')
        try:
            NORM_LAYERS[kind](8, **arguments)
        except (TypeError, ValueError) as error:
            raise LaunchError(f'{place}: {kind}: {error}; correct it in the config') from None


def _arguments(layer: type[nn.Module]) -> list[str]:
    """Name the arguments of a layer's constructor, with those that it hands on to the next class."""
    names: dict[str, None] = {}
    for kind in layer.__mro__:
        if constructor := vars(kind).get('__init__'):
            parameters = inspect.signature(constructor).parameters.values()
            names |= {p.name: None for p in parameters if p.kind is not p.VAR_KEYWORD}
            if all(p.kind is not p.VAR_KEYWORD for p in parameters):
                break
    return [name for name in names if name not in ('self', 'num_features')]


def _check_sync_bn(cfg: Config, model: nn.Module) -> None:
    """Check that MMEngine is not asked to replace the layers of this package: it would, without a word."""
    layers = [name for name, layer in model.named_modules() if isinstance(layer, StatefulNorm)]
    if cfg.get('sync_bn') and layers:
        kind = type(model.get_submodule(layers[0])).__name__
        raise LaunchError(
            f'sync_bn={cfg.sync_bn!r} makes MMEngine replace every batch norm by SyncBN, among them '
            f'{len(layers)} layers of mmdet_cbn, e.g. {layers[0]} ({kind}): remove it; what synchronizes CBN '
            "and NaiveCBN is norm_cfg=dict(type='CBN', sync=True)"
        )


def _check_pairs(cfg: Config, model: nn.Module) -> None:
    """Check that every CBN layer has its convolution, from the hook or on its own, and CmBN the hook."""
    hooks = [hook for hook in cfg.get('custom_hooks') or [] if isinstance(hook, Mapping)]
    for hook in hooks:
        find_type(HOOKS, hook.get('type'), 'custom_hooks', ['CrossIterationHook'])
    ours = [hook for hook in hooks if hook.get('type') in ('CrossIterationHook', CrossIterationHook)]
    if not ours:
        lone = [
            name
            for name, layer in model.named_modules()
            if isinstance(layer, CrossIterationBatchNorm2d)
            and layer.training
            and layer.window_size > 1
            and layer.pair_names is None
        ]
        if lone:
            raise LaunchError(
                f'{len(lone)} CBN layers, e.g. {lone[0]}, would train without knowing their convolutions: '
                "put custom_hooks = [dict(type='CrossIterationHook')] into the config"
            )
        endless = [name for name, layer in model.named_modules() if isinstance(layer, CrossMiniBatchNorm2d)]
        if endless:
            raise LaunchError(
                f'{len(endless)} CmBN layers, e.g. {endless[0]}, would not know when a step ends, and '
                "train as NaiveCBN: put custom_hooks = [dict(type='CrossIterationHook')] into the config"
            )
        return
    try:
        for hook in ours:
            CrossIterationHook(
                **{key: value for key, value in hook.items() if key not in ('type', 'priority', '_scope_')}
            )
    except (TypeError, ValueError) as error:
        raise LaunchError(f'custom_hooks: CrossIterationHook: {error}; correct it in the config') from None
    try:
        pair_conv_norm(model)
    except (TypeError, ValueError) as error:
        raise LaunchError(f'the norm_cfg of this model: {error}') from None


def _check_centring(model: nn.Module) -> None:
    """Check that MABN layers, which subtract no mean, come after convolutions that do."""
    layers: dict[bool, list[str]] = {True: [], False: []}
    for parent_name, parent in model.named_modules():
        centred = False
        for name, child in parent.named_children():
            if isinstance(child, nn.Conv2d):
                centred = isinstance(child, CenteredConv2d)
            elif isinstance(child, MovingAverageBatchNorm2d) and child.training:
                layers[centred].append(f'{parent_name}.{name}' if parent_name else name)
    if not layers[False]:
        return
    remedy = "put conv_cfg=dict(type='CenConv2d') beside every norm_cfg=dict(type='MABN')"
    text = f'{len(layers[False])} MABN layers, e.g. {layers[False][0]}, do not follow a CenConv2d'
    if layers[True]:
        raise LaunchError(f'{text}, and {len(layers[True])} do, e.g. {layers[True][0]}; {remedy}')
    warn_user(f'{text}, so nothing takes the mean out of their input; {remedy}')
