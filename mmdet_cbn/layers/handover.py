"""The way of a convolution's input to the norm behind it."""

from typing import Any
from weakref import ref

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


class Handover:
    """Holds the last call of a convolution until the norm behind it takes it.

    While one of its norms is in training mode, :meth:`receive` is the convolution's forward hook; in eval
    mode there is none, since ``torch.jit.script`` would compile it. The convolution does not know the norm,
    so one that was folded away is freed. A bound method goes through deepcopy and pickle with the module, and
    norms that share a convolution share its handover. A call whose output is gone goes with it.

    Attributes:
        conv: The convolution.
        in_eval_mode: Whether it was at its last call; calls in eval mode are not held.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        self.conv = conv
        self.in_eval_mode = False
        self._call: tuple[Tensor, ref[Tensor], int] | None = None
        self._listeners: set[str] = set()
        self._hook: RemovableHandle | None = None

    def listen(self, norm: str, wanted: bool) -> None:
        """Register the hook for the norm of this name, or remove it with the last one that wanted it."""
        (self._listeners.add if wanted else self._listeners.discard)(norm)
        if self._listeners and self._hook is None:
            # First of all hooks, since another one may return something else than the convolution's output.
            self._hook = self.conv.register_forward_hook(self.receive, prepend=True, with_kwargs=True)
        elif not self._listeners and self._hook is not None:
            self._hook.remove()
            self._hook = self._call = None

    def receive(
        self, conv: nn.Conv2d, inputs: tuple[Tensor, ...], named: dict[str, Tensor], output: Tensor
    ) -> None:
        """Remember a call, in place of an earlier one."""
        self.in_eval_mode = not conv.training
        if conv.training:
            x = inputs[0] if inputs else named['input']
            self._call = (x, ref(output, self._forget), _version(output))

    def _forget(self, output: ref[Tensor]) -> None:
        """Let go of a call whose output is gone: no norm will take it (a frozen one, an interruption)."""
        if self._call is not None and self._call[1] is output:
            self._call = None

    def take(self, output: Tensor) -> tuple[nn.Conv2d, Tensor] | None:
        """Give out the convolution and its input, and forget them in any case.

        None where ``output`` is not what it returned, or has been changed in place since.
        """
        call, self._call = self._call, None
        if call is None or call[1]() is not output or call[2] != _version(output):
            return None
        return self.conv, call[0]

    def __getstate__(self) -> dict[str, Any]:
        """Leave out activations that a forward pass cut short left behind."""
        return vars(self) | {'_call': None}


def _version(tensor: Tensor) -> int:
    """Return how often ``tensor`` was changed in place; those of inference mode do not count."""
    return 0 if tensor.is_inference() else tensor._version
