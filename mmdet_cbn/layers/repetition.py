"""Activation checkpointing: the forward pass that autograd repeats during the backward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar, cast
from weakref import ref

import torch
from torch import Tensor

from ..ops.torch_private import backward_pass


class StatisticsInUse(Protocol):
    """What one forward pass normalizes by: a frozen dataclass of each layer."""

    def as_batch_norm(self, eps: float) -> dict[str, Tensor]:
        """Name the statistics, shape (C,), of the batch norm with the same output.

        Args:
            eps: What that batch norm adds to the variance.
        """


Used = TypeVar('Used', bound=StatisticsInUse)


class _Call:
    """What a forward pass was computed with. Its graph holds it, and nothing else does."""

    def __init__(self, shape: torch.Size, statistics: StatisticsInUse) -> None:
        self.shape = shape
        self.statistics = statistics
        self.repeated = False


class Repetition:
    """Lets a layer with a memory count each call once, and see the same in both passes over it.

    ``torch.utils.checkpoint`` with ``use_reentrant=True`` (MMDetection's ``with_cp``) runs a layer without
    gradients first, which changes nothing, and with gradients during the backward pass: that pass counts.
    With ``use_reentrant=False`` the first pass has gradients and counts. The repetition during the backward
    pass must neither count nor see what the first pass added, so it gets the first one's statistics.
    """

    def __init__(self) -> None:
        self._without_grad = 0
        self._task: int | None = None  # the backward pass in which one of them was repeated
        self._calls: list[ref[_Call]] = []

    def first_pass(self, x: Tensor, measure: Callable[[Tensor], Used]) -> Used:
        """Return the statistics of the first pass where this is a repetition, else ``measure(x)``.

        A head that is shared by FPN levels has several calls in an iteration: they differ in their shapes,
        which serves the kind with ``use_reentrant=False``. In the other kind each repetition would see what
        the one before it added, so there may be one in a backward pass.

        Raises:
            RuntimeError: Several calls of the layer may be the one that is repeated.
        """
        if not torch.is_grad_enabled():
            self._without_grad += 1
            return measure(x)
        task = backward_pass()
        if task is None:
            return measure(x)
        calls = [call for call in self._living() if call.shape == x.shape]
        # A graph that somebody keeps outlives its backward pass, and may have another one.
        calls = [call for call in calls if not call.repeated] or calls
        candidates = self._without_grad + len(calls)
        if self._without_grad and not calls and task != self._task:
            # Passes that nobody repeats are of batches without a backward pass: skipped ones, say.
            self._task, self._without_grad = task, self._without_grad - 1
            return measure(x)
        if candidates != 1 or self._without_grad:
            raise RuntimeError(
                'activation checkpointing repeats a call of a normalization layer with an input of shape '
                f'{tuple(x.shape)}, and which of {candidates} calls it is cannot be told. Layers that run '
                'several times an iteration need use_reentrant=False and inputs that differ in shape, or no '
                'checkpointing. After forward passes without gradients in training mode, call model.train().'
            )
        calls[0].repeated = True
        return cast(Used, calls[0].statistics)  # a layer has statistics of one type

    def remember(self, output: Tensor, statistics: StatisticsInUse) -> None:
        """Keep ``statistics`` as long as the graph behind ``output``."""
        if output.grad_fn is not None and backward_pass() is None:
            call = _Call(output.shape, statistics)
            _metadata(output.grad_fn)[_Call] = call
            self._calls = [*(ref(living) for living in self._living()), ref(call)]

    def remembered(self, node: torch.autograd.graph.Node) -> StatisticsInUse | None:
        """Return the statistics behind the output of this layer that ``node`` made, None for other nodes."""
        call = _metadata(node).get(_Call)
        own = any(call is living for living in self._living())
        return call.statistics if call is not None and own else None

    def reset(self) -> None:
        """Forget the passes without gradients that no backward pass came for."""
        self._without_grad = 0

    def _living(self) -> list[_Call]:
        return [call for call in (reference() for reference in self._calls) if call is not None]

    def __deepcopy__(self, memo: dict[int, Any]) -> Repetition:
        """Return a new one: the calls belong to the graph of the original."""
        return Repetition()

    def __reduce__(self) -> tuple[type, tuple[()]]:
        """Pickle as a new one."""
        return Repetition, ()


def _metadata(node: torch.autograd.graph.Node) -> dict[type[_Call], _Call]:
    attribute: Any = node.metadata  # which torch declares as a method
    metadata: dict[type[_Call], _Call] = attribute
    return metadata
