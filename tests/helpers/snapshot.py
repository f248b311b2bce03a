"""What training leaves behind in a layer or a model, to be compared."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmdet_cbn.layers.exponential_window import ExponentialWindow
from mmdet_cbn.layers.window import Window


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    """Copy everything that training leaves behind: parameters, last gradients, and :func:`memory`."""
    state = dict(model.named_parameters())
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            state[f'{name}.grad'] = parameter.grad
    return {name: value.detach().clone() for name, value in state.items()} | memory(model)


def memory(model: nn.Module) -> dict[str, Tensor]:
    """Copy all that the layers remember of earlier iterations: buffers, and entries of windows."""
    state = dict(model.named_buffers())
    for name, module in model.named_modules():
        if getattr(module, 'window', None) is not None:
            state |= {f'{name}.window.{key}'.lstrip('.'): v for key, v in entries(module.window).items()}
    return {name: value.clone() for name, value in state.items()}


def entries(window: Window | ExponentialWindow) -> dict[str, Tensor]:
    """Return what a window holds, a row for each entry that counts."""
    if isinstance(window, ExponentialWindow):
        return {'flat': window.flat}
    return {'flat': window.flat[newest_last(window)], 'taken': window.taken}


def newest_last(window: Window) -> list[int]:
    """Return the rows that hold entries."""
    return [(int(window.position) - age) % window.rows for age in range(int(window.fill), 0, -1)]


def assert_same(
    found: Mapping[str, Tensor], expected: Mapping[str, Tensor], but: tuple[str, ...] = ()
) -> None:
    """Compare bit by bit, ``but`` for names that end so."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if not name.endswith(but):
            assert torch.equal(found[name], value), name


def assert_nearly_same(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], tolerance: float) -> None:
    """Compare with one tolerance, relative and absolute."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.allclose(found[name], value, tolerance, tolerance), name
