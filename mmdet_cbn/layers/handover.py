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

    Attributes:
        in_eval_mode: Whether the convolution was at its last call; calls in eval mode are not held.
    """

    def __init__(self) -> None:
        self._call: tuple[nn.Conv2d, Tensor, ref[Tensor], int] | None = None
        self.in_eval_mode = False

    def receive(
        self, conv: nn.Conv2d, inputs: tuple[Tensor, ...], named: dict[str, Tensor], output: Tensor
    ) -> None:
        """Remember a call, in place of an earlier one."""
        self.in_eval_mode = not conv.training
        if conv.training:
            x = inputs[0] if inputs else named['input']
            self._call = (conv, x, ref(output, self._forget), _version(output))

    def _forget(self, output: ref[Tensor]) -> None:
        """Let go of a call whose output is gone: no norm will take it (a frozen one, an interruption)."""
        if self._call is not None and self._call[2] is output:
            self._call = None

    def take(self, output: Tensor) -> tuple[nn.Conv2d, Tensor] | None:
        """Give out the convolution and its input, and forget them in any case.

        None where ``output`` is not what it returned, or has been changed in place since.
        """
        call, self._call = self._call, None
        if call is None or call[2]() is not output or call[3] != _version(output):
            return None
        return call[:2]

    def __getstate__(self) -> dict[str, Any]:
        """Leave out activations that a forward pass cut short left behind."""
        return {'_call': None, 'in_eval_mode': False}


def _version(tensor: Tensor) -> int:
    """Return how often ``tensor`` was changed in place; those of inference mode do not count."""
    return 0 if tensor.is_inference() else tensor._version
