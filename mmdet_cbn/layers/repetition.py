"""Activation checkpointing: the forward pass that autograd repeats during the backward pass."""

from collections.abc import Callable
from typing import Any
from weakref import ref

import torch
from torch import Tensor


class _Call:
    """What a forward pass was computed with. Its graph holds it, and nothing else does."""

    def __init__(self, shape: torch.Size, constants: tuple[Any, ...]) -> None:
        self.shape = shape
        self.constants = constants
        self.repeated = False


class Repetition:
    """Lets a layer with a memory count each call once, and see the same in both passes over it.

    ``torch.utils.checkpoint`` with ``use_reentrant=True`` (MMDetection's ``with_cp``) runs a layer without
    gradients first, which changes nothing, and with gradients during the backward pass: that pass counts.
    With ``use_reentrant=False`` the first pass has gradients and counts. The repetition during the backward
    pass must neither count nor see what the first pass added, so it gets the first one's constants.
    """

    def __init__(self) -> None:
        self._without_grad = 0
        self._calls: list[ref[_Call]] = []

    def constants(self, x: Tensor, compute: Callable[[Tensor], tuple[Any, ...]]) -> tuple[Any, ...]:
        """Return those of the first pass where this is a repetition, else ``compute(x)``.

        A head that is shared by FPN levels has several calls in an iteration: they differ in their shapes,
        which serves the kind with ``use_reentrant=False``. In the other kind each repetition would see what
        the one before it added.

        Raises:
            RuntimeError: Several calls of the layer may be the one that is repeated.
        """
        if not torch.is_grad_enabled():
            self._without_grad += 1
            return compute(x)
        if torch._C._current_graph_task_id() == -1:  # not inside of a backward pass
            return compute(x)
        calls = [call for call in self._living() if call.shape == x.shape]
        # A graph that somebody keeps outlives its backward pass, and may have another one.
        calls = [call for call in calls if not call.repeated] or calls
        candidates = self._without_grad + len(calls)
        if candidates != 1:
            raise RuntimeError(
                'activation checkpointing repeats a call of a normalization layer with an input of shape '
                f'{tuple(x.shape)}, and which of {candidates} calls it is cannot be told. Layers that run '
                'several times an iteration need use_reentrant=False and inputs that differ in shape, or no '
                'checkpointing. After forward passes without gradients in training mode, call model.train().'
            )
        if self._without_grad:
            self._without_grad -= 1
            return compute(x)
        calls[0].repeated = True
        return calls[0].constants

    def remember(self, output: Tensor, constants: tuple[Any, ...]) -> None:
        """Keep ``constants`` as long as the graph behind ``output``."""
        if output.grad_fn is not None and torch._C._current_graph_task_id() == -1:
            call = _Call(output.shape, constants)
            output.grad_fn.metadata[_Call] = call
            self._calls = [*(ref(living) for living in self._living()), ref(call)]

    def remembered(self, node: torch.autograd.graph.Node) -> tuple[Any, ...] | None:
        """Return the constants behind the output of this layer that ``node`` made, None for other nodes."""
        call = node.metadata.get(_Call)
        return call.constants if any(call is living for living in self._living()) else None

    def reset(self) -> None:
        """Forget the passes without gradients that no backward pass came for."""
        self._without_grad = 0

    def _living(self) -> list[_Call]:
        return [call for call in (reference() for reference in self._calls) if call is not None]

    def __deepcopy__(self, memo: dict[int, Any]) -> 'Repetition':
        """Return a new one: the calls belong to the graph of the original."""
        return Repetition()

    def __reduce__(self) -> tuple[type, tuple[()]]:
        """Pickle as a new one."""
        return Repetition, ()
