"""The way of a convolution's input to the norm behind it."""

from typing import Any
from weakref import ref

from torch import Tensor, nn


class Handover:
    """Holds the last call of a convolution until the norm behind it takes it.

    Pairing registers :meth:`receive` as the convolution's forward hook and gives the object to the norm.
    The convolution does not know the norm, so one that was folded away is freed. A bound method goes
    through deepcopy and pickle with the module, and norms that share a convolution share its handover. A
    call whose output is gone goes with it.
    """

    def __init__(self) -> None:
        self._call: tuple[nn.Conv2d, Tensor, ref[Tensor]] | None = None

    def receive(self, conv: nn.Conv2d, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Remember a call, in place of an earlier one."""
        if conv.training:
            self._call = (conv, inputs[0], ref(output, self._forget))

    def _forget(self, output: ref[Tensor]) -> None:
        """Let go of a call whose output is gone: no norm will take it (a frozen one, an interruption)."""
        if self._call is not None and self._call[2] is output:
            self._call = None

    def take(self, output: Tensor) -> tuple[nn.Conv2d, Tensor] | None:
        """Give out the convolution and its input if it returned ``output``, and forget them in any case."""
        call, self._call = self._call, None
        return call[:2] if call is not None and call[2]() is output else None

    def __getstate__(self) -> dict[str, Any]:
        """Leave out activations that a forward pass cut short left behind."""
        return {'_call': None}
