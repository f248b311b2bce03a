"""The layers that the papers speak of: convolutions whose output is normalized by batch statistics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@dataclass(frozen=True)
class Call:
    """The first use of such a convolution in a forward pass.

    Attributes:
        name: Of the convolution in the model.
        conv: The convolution.
        input: Its input, shape (N, C_in, H, W).
        output: Its output, shape (N, C, H_out, W_out), with its graph if there is one.
        eps: What the norm adds to the variance.
    """

    name: str
    conv: nn.Conv2d
    input: Tensor
    output: Tensor
    eps: float


@contextmanager
def record_normalized_convolutions(model: nn.Module) -> Iterator[list[Call]]:
    """Record forward passes of ``model``: which convolutions hand their output to a norm in training mode.

    A norm is any of torch's batch norms or a subclass, which all layers of this package are. What is
    recorded is what happens, not what the order of registration promises, so it holds for any model. A
    convolution that is used several times (a head shared by the levels of a pyramid) counts at its
    first use.

    Args:
        model: Any module. Norms that stay in eval mode (MMDetection's ``norm_eval``) use no batch
            statistics: their convolutions are not recorded.

    Yields:
        A list that fills in order of execution.
    """
    calls: list[Call] = []
    waiting: dict[int, tuple[str, nn.Conv2d, Tensor, Tensor]] = {}

    def after_conv(name: str, conv: nn.Conv2d, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        waiting[id(output)] = (name, conv, inputs[0], output)

    def before_norm(norm: _BatchNorm, inputs: tuple[Tensor, ...]) -> None:
        found = waiting.pop(id(inputs[0]), None)
        if found and norm.training and inputs[0].numel() and all(call.name != found[0] for call in calls):
            calls.append(Call(*found, norm.eps))

    handles = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            handles.append(module.register_forward_hook(partial(after_conv, name)))
        elif isinstance(module, _BatchNorm):
            handles.append(module.register_forward_pre_hook(before_norm))
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()
