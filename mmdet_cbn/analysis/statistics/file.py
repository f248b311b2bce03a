"""The file in which a run's statistics are kept: one npz, read without pickle."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...whole_file import whole_file

_FORMAT = 'mmdet_cbn layer statistics 1'


class StatisticsFileError(ValueError):
    """A file is missing or is not what :func:`write_statistics` wrote; the message says which and why."""


@dataclass(frozen=True)
class LayerStatistics:
    """What was recorded of one layer.

    Attributes:
        kind: Class of the layer.
        records: Arrays of one value a recorded training forward; 'call' has its number, from 1. What was not
            to be had is nan.
        errors: Arrays of one value a reference batch; 'call' is the training forward that it belongs to. No
            value where no reference batch was measured.
    """

    kind: str
    records: dict[str, np.ndarray]
    errors: dict[str, np.ndarray]


def write_statistics(layers: Mapping[str, LayerStatistics], path: str | Path) -> None:
    """Write the statistics of a run, whole or not at all.

    The keys are '<layer>/class', '<layer>/<statistic>' and '<layer>/reference/<error>'.

    Args:
        layers: By their names in the model.
        path: The file to write; its name ends in .npz.

    Raises:
        ValueError: The name ends in something else.
        OSError: The file cannot be written.
    """
    path = Path(path)
    if path.suffix != '.npz':
        raise ValueError(f'{path}: the name of a file of statistics has to end in .npz')
    arrays: dict[str, Any] = {'format': np.array(_FORMAT)}
    for name, layer in layers.items():
        arrays[f'{name}/class'] = np.array(layer.kind)
        arrays |= {f'{name}/{statistic}': values for statistic, values in layer.records.items()}
        arrays |= {f'{name}/reference/{error}': values for error, values in layer.errors.items()}
    with whole_file(path) as partial, partial.open('wb') as file:
        np.savez_compressed(file, **arrays)


def read_statistics(path: str | Path) -> dict[str, LayerStatistics]:
    """Read what :func:`write_statistics` wrote, in the order of the model.

    Raises:
        StatisticsFileError: The file is missing, broken or another kind of file.
    """
    try:
        arrays = _load(path)
    except FileNotFoundError:
        raise StatisticsFileError(f'{path}: no such file') from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise StatisticsFileError(f'{path} cannot be read as a file of statistics: {error}') from None
    if str(arrays.pop('format', '')) != _FORMAT:
        raise StatisticsFileError(f'{path} is not a file of statistics (StatisticsRecorder.save writes them)')
    kinds = {
        key.removesuffix('/class'): str(value) for key, value in arrays.items() if value.dtype.kind == 'U'
    }
    layers = {name: LayerStatistics(kind, {}, {}) for name, kind in kinds.items()}
    for key, values in arrays.items():
        owner, _, statistic = key.rpartition('/')
        if owner in layers and statistic != 'class':
            layers[owner].records[statistic] = values
        elif owner.removesuffix('/reference') in layers and statistic != 'class':
            layers[owner.removesuffix('/reference')].errors[statistic] = values
    return layers


def _load(path: str | Path) -> dict[str, np.ndarray]:
    with open(path, 'rb') as file:
        loaded = np.load(file)
        return dict(loaded) if isinstance(loaded, np.lib.npyio.NpzFile) else {}
