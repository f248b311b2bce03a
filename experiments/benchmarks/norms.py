"""The norms whose cost is measured: those that compete, and CBN with other arguments."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from ..common.methods import METHODS, Method

REFERENCE = 'BN'


def _cbn(**arguments: Any) -> Method:
    return replace(METHODS['cbn'], arguments=arguments)


MODEL_NORMS: Mapping[str, Method] = {
    **{method.label: method for method in METHODS.values()},
    **{METHODS[name].label: replace(METHODS[name], arguments={'num_groups': 32}) for name in ('gn', 'gn-ws')},
    'CBN, fraction 1/8': _cbn(derivative_fraction=1 / 8),
}
LAYER_NORMS: Mapping[str, Method] = {
    **MODEL_NORMS,
    'CBN, k=2': _cbn(window_size=2),
    'CBN, k=8': _cbn(window_size=8),
    'CBN, exponential, fraction 1/8': _cbn(averaging='exponential', derivative_fraction=1 / 8),
}


def without_sync(norms: Mapping[str, Method], device: torch.device) -> dict[str, Method]:
    """Leave SyncBN out where no process group is initialized, or off CUDA, where torch has none."""
    synchronizes = device.type == 'cuda' and torch.distributed.is_initialized()
    return {name: norm for name, norm in norms.items() if synchronizes or name != 'SyncBN'}
