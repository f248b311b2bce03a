"""What torch is asked to do, operation by operation."""

from typing import NamedTuple

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten


class Operation(NamedTuple):
    """One call of an operator, with its tensors, those of the result last."""

    name: str
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[str, ...]
    devices: tuple[str, ...]


class RecordedOperations(TorchDispatchMode):
    """Records what is computed in its context, backward passes included."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Operation] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        leaves, _ = tree_flatten((args, kwargs, result))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        shapes = tuple(tuple(tensor.shape) for tensor in tensors)
        dtypes = tuple(str(tensor.dtype) for tensor in tensors)
        devices = tuple(tensor.device.type for tensor in tensors)
        self.operations.append(Operation(func.overloadpacket._qualified_op_name, shapes, dtypes, devices))
        return result
