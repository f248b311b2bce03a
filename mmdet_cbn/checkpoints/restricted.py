"""Loading checkpoints without executing them: tensors, plain values, and what MMEngine puts beside them."""

from __future__ import annotations

import _codecs
import pickle
import re
import tarfile
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import Counter, OrderedDict
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np
import torch
from torch import serialization

_NUMBERS_AND_TEXT = (
    *('bool', 'int8', 'int16', 'int32', 'int64', 'uint8', 'uint16', 'uint32', 'uint64'),
    *('float16', 'float32', 'float64', 'complex64', 'complex128', 'str', 'bytes'),
)


class RefusedGlobalError(RuntimeError):
    """A checkpoint holds objects that are not admitted.

    Attributes:
        found: Name of the class or function that the file asks for.
    """

    def __init__(self, found: str):
        super().__init__(f'it holds {found}, which is neither a tensor nor a plain value')
        self.found = found


def load_restricted(file: str | Path | IO[bytes], map_location: Any = None) -> Any:
    """Load what ``torch.save`` wrote, admitting by name what MMEngine's own checkpoints hold.

    That is what torch's restricted unpickler admits, NumPy's arrays and scalars of numbers and text, and the
    histories of the losses (``HistoryBuffer``) with their four statistics.

    Args:
        file: A path or a file to read from.
        map_location: As of ``torch.load``.

    Raises:
        RefusedGlobalError: The file holds anything else; nothing of it was executed.
        Exception: It is damaged; nearly anything.
    """
    takes_names = tuple(map(int, torch.__version__.split('.')[:2])) >= (2, 6)
    try:
        return (load_by_torch if takes_names else load_by_name)(file, map_location)
    except pickle.UnpicklingError as error:
        found = re.search(r"(?:GLOBAL |but got <class ')([\w.]+)", str(error))
        if found:
            raise RefusedGlobalError(found[1]) from None
        raise


def load_by_torch(file: str | Path | IO[bytes], map_location: Any = None) -> Any:
    """Load with torch's restricted unpickler, which takes names of the user's from 2.6 on."""
    with serialization.safe_globals([(value, name) for name, value in _admitted().items()]):
        return serialization.load(file, map_location=map_location, weights_only=True)


def load_by_name(file: str | Path | IO[bytes], map_location: Any = None) -> Any:
    """Load with an unpickler that goes by the same names, for older versions of torch."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            if any(name.endswith('/constants.pkl') for name in archive.namelist()):
                raise RefusedGlobalError('TorchScript')  # torch.load would hand it to torch.jit
    elif isinstance(file, str | Path) and tarfile.is_tarfile(file):
        raise RefusedGlobalError('tarfile')  # of torch before 0.1.10, to be unpacked to the disk
    if not isinstance(file, str | Path):
        file.seek(0)
    return serialization.load(
        file, map_location=map_location, weights_only=False, pickle_module=_RestrictedPickle
    )


_build: Callable[[Any], None] = pickle._Unpickler.dispatch[pickle.BUILD[0]]


class _Unpickler(pickle._Unpickler):  # the one written in C lets nobody decide who gets a state
    """Finds admitted names only, and gives a state to instances of admitted classes only."""

    stack: list[Any]
    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        found = _admitted_to_unpickler().get(f'{module}.{name}')
        if found is None:
            raise pickle.UnpicklingError(f'Unsupported global: GLOBAL {module}.{name}')
        return found

    def load_build(self) -> None:
        kind = type(self.stack[-2])
        if kind not in (torch.Tensor, torch.nn.Parameter, OrderedDict, *_admitted().values()):
            raise pickle.UnpicklingError(f'Can only build admitted types, but got {kind}')
        _build(self)

    dispatch[pickle.BUILD[0]] = load_build


class _RestrictedPickle:
    """What ``torch.load`` takes of a ``pickle_module``."""

    __name__ = 'restricted'
    Unpickler = _Unpickler

    @staticmethod
    def load(file: IO[bytes], **arguments: Any) -> Any:
        return _Unpickler(file, **arguments).load()


@cache
def _admitted_to_unpickler() -> dict[str, Any]:
    """The list of torch's restricted unpickler, which torch 2.1 has as well, and ours."""
    plain = (set, bytearray, complex)
    dtypes = (value for value in vars(torch).values() if isinstance(value, torch.dtype))
    return {
        **torch._weights_only_unpickler._get_allowed_globals(),
        'torch.device': torch.device,
        **{f'builtins.{kind.__name__}': kind for kind in plain},
        **{str(dtype): dtype for dtype in dtypes},
        **_admitted(),
    }


@cache
def _admitted() -> dict[str, Any]:
    """What a checkpoint may ask for beside what torch admits, by full name."""
    rebuild_array, rebuild_scalar = (value.__reduce__()[0] for value in (np.zeros(1), np.float64(0)))
    dtypes = [type(np.dtype(name)) for name in _NUMBERS_AND_TEXT]
    admitted: dict[str, Any] = {
        'collections.Counter': Counter,  # milestones of a schedule
        '_codecs.encode': _codecs.encode,  # bytes, as protocol 2 writes them
        'builtins.bytes': bytes,  # the same, of length 0
        'numpy.ndarray': np.ndarray,
        'numpy.dtype': np.dtype,
        **{f'{kind.__module__}.{kind.__qualname__}': kind for kind in dtypes},
        **{
            f'{package}.multiarray.{name}': function
            for package in ('numpy.core', 'numpy._core')  # of NumPy 1 and 2
            for name, function in (('_reconstruct', rebuild_array), ('scalar', rebuild_scalar))
        },
    }
    try:
        from mmengine.logging import HistoryBuffer
    except ImportError:
        return admitted

    def get_statistic(owner: Any, name: str) -> Any:
        if owner is HistoryBuffer and name in ('min', 'max', 'current', 'mean'):
            return getattr(owner, name)
        raise pickle.UnpicklingError('Unsupported global: GLOBAL builtins.getattr')

    admitted['mmengine.logging.history_buffer.HistoryBuffer'] = HistoryBuffer
    admitted['builtins.getattr'] = get_statistic  # protocol 2 writes HistoryBuffer.min as a call of it
    return admitted
