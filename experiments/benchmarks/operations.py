"""How many operations a function asks torch for: each is a launch on a GPU."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode


class _Counting(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        aliases = [returned.alias_info for returned in func._schema.returns]
        if not any(alias is not None and not alias.is_write for alias in aliases):  # else it is a view
            self.counts[str(func)] += 1
        return func(*args, **(kwargs or {}))


def count_operations(function: Callable[[], object]) -> Counter[str]:
    """Count the operations of a call by their names, backward passes included, views not.

    A view shares the memory of an argument and leaves it as it is.
    """
    with _Counting() as counting:
        function()
    return counting.counts


def training_operations(block: nn.Module, x: Tensor) -> Counter[str]:
    """Count those of a forward and backward pass that adds to gradients that are there: 13 with BN.

    Args:
        block: Convolution, norm and activation.
        x: Its input, with gradient.
    """

    def step() -> None:
        x.grad = None
        block(x).sum().backward()

    step()
    return count_operations(step)
