"""What the norm layers of one process remember apart from those of the others."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from .cross_iteration_norm import WINDOWS, CrossIterationNorm
from .exponential_window import ExponentialWindow
from .pairing import pair_conv_norm
from .stateful_norm import StatefulNorm
from .window import Window

State = dict[str, dict[str, Any]]


def local_state(model: nn.Module) -> State:
    """Collect what a checkpoint does not hold of the layers of this package.

    That is the window of the cross-iteration layers, and in processes other than the one that writes the
    checkpoint also the buffers of all layers. With a checkpoint of the same moment it makes a resumed
    training go on exactly as if it had not been interrupted.

    Args:
        model: Any module.

    Returns:
        For the name of each layer its ``type``, its ``tensors`` (buffers, and parameters to be recognized
        by) and its ``window`` (None where it has none). As in a state dict, these are the layer's own
        tensors, not copies. ``torch.load`` reads them with ``weights_only=True``.
    """
    return {
        name: {
            'type': type(norm).__name__,
            'tensors': dict(norm.state_dict()),
            'window': _window_state(norm),
        }
        for name, norm in _norms(model)
    }


def load_local_state(model: nn.Module, state: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Give the layers back what :func:`local_state` collected, after their checkpoint was loaded.

    A layer takes only what belongs to it: saved by the same type with the same gamma and beta. What does
    not is left: the window starts empty and refills, the buffers stay as they are.

    Args:
        model: In training it must be paired, or to be paired by :func:`.pair_conv_norm`.
        state: From :func:`local_state`; empty if there is none.

    Returns:
        For the name of each layer that had to leave something, why.
    """
    pairs = pair_conv_norm(model)
    reasons = {}
    for name, norm in _norms(model):
        conv = model.get_submodule(pairs[name]) if name in pairs else None
        reasons[name] = _load(norm, state.get(name), conv)
    return {name: reason for name, reason in reasons.items() if reason}


def forget_window(norm: nn.Module) -> None:
    """Let the window of a layer start empty, where it has one."""
    if isinstance(norm, CrossIterationNorm):
        norm.window = None


def _norms(model: nn.Module) -> Iterator[tuple[str, StatefulNorm]]:
    return ((name, m) for name, m in model.named_modules() if isinstance(m, StatefulNorm))


def _window_state(norm: StatefulNorm) -> dict[str, Any] | None:
    if not isinstance(norm, CrossIterationNorm) or norm.window is None:
        return None
    return dict(vars(norm.window))


def _load(norm: StatefulNorm, saved: Mapping[str, Any] | None, conv: nn.Module | None) -> str | None:
    """Load a layer; return why something was left."""
    forget_window(norm)
    if saved is None:
        return 'nothing was saved of it'
    if saved['type'] != type(norm).__name__:
        return f'it was saved by {saved["type"]}, the layer is {type(norm).__name__}'
    tensors, own = saved['tensors'], norm.state_dict()
    if {k: v.shape for k, v in tensors.items()} != {k: v.shape for k, v in own.items()}:
        return 'it was saved by a layer of another size'
    if not all(torch.equal(tensors[name].cpu(), value.cpu()) for name, value in norm.named_parameters()):
        return 'it was saved with other weights'
    norm.load_state_dict(tensors)
    if saved['window'] is None or not isinstance(norm, CrossIterationNorm):
        return None
    window = _make_window(saved['window'], norm.iterations.device)
    if window is None:
        return 'its window was saved by another version of mmdet_cbn'
    if type(window) is not WINDOWS[norm.averaging]:
        return f'it was saved with another averaging, the layer has averaging={norm.averaging!r}'
    if window.window_size != norm.window_size:
        sizes = f'window_size={window.window_size}, the layer has window_size={norm.window_size}'
        return f'it was saved with {sizes}'
    theta, groups = (conv.weight.flatten(1), conv.groups) if isinstance(conv, nn.Conv2d) else (None, 1)
    if not window.matches(norm.window_size, window.mean.new_zeros(norm.num_features), theta, groups):
        return 'its window was saved for another convolution'
    norm.window = window
    return None


def _make_window(saved: Mapping[str, Any], device: torch.device) -> Window | ExponentialWindow | None:
    for kind in WINDOWS.values():
        window = kind(2, torch.zeros(1))
        if saved.keys() == vars(window).keys():
            vars(window).update(saved)
            window.apply(lambda tensor: tensor.to(device, copy=True))
            return window
    return None
