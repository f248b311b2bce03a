"""The recorded statistics of a layer in numbers: how steady they are, and how far from a reference."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .file import LayerStatistics

_NAMES = {'mean': 'mu', 'spread': 'sigma^2', 'g': 'g', 'psi': 'Psi'}


def change(values: np.ndarray) -> float:
    """Return the mean absolute change of ln(values) from one record to the next, in the later half.

    Args:
        values: Shape (T,), in their order. Where one of two neighbours is 0 or not finite, the step between
            them is left out.

    Returns:
        nan where no step is left.
    """
    late = values[len(values) // 2 :]
    with np.errstate(divide='ignore', invalid='ignore'):
        steps = np.abs(np.diff(np.log(late)))
    return _mean(steps)


def distance(values: np.ndarray) -> float:
    """Return the mean of what is finite in the later half.

    Args:
        values: Shape (T,), distances from a reference batch in their order: of means in its standard
            deviations, of variances and means of squares relative to its own.

    Returns:
        In the same unit; nan where nothing is finite.
    """
    return _mean(values[len(values) // 2 :])


def _mean(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float('nan')


def table(runs: Mapping[str, LayerStatistics]) -> list[list[str]]:
    """Summarize the later halves of the runs, as rows of text, the first of which is the heading.

    The columns are :func:`change` of each statistic and :func:`distance` of what was measured against the
    reference batch. An arrow leads from the batch's own statistic to the one in use, where that is another.
    What a run has no values of is a dash, a column without any value is left out.

    Args:
        runs: One layer, by the names of the runs. MABN's mean of squares is in the column of the variance.
    """
    averages = any('chi2_in_use' in layer.records for layer in runs.values())
    names = _NAMES | ({'spread': 'sigma^2 (MABN: chi^2)'} if averages else {})
    columns = {f'change of {name}': ('records', key) for key, name in names.items()}
    columns |= {f'error of {names[key]}': ('errors', key) for key in ('mean', 'spread')}
    cells = {
        heading: [_cell(layer, part, key) for layer in runs.values()]
        for heading, (part, key) in columns.items()
    }
    cells = {heading: column for heading, column in cells.items() if set(column) != {'-'}}
    return [['run', *cells], *([run, *row] for run, *row in zip(runs, *cells.values(), strict=True))]


def _cell(layer: LayerStatistics, part: str, key: str) -> str:
    averages = 'chi2_in_use' in layer.records
    if key == 'mean' and averages:
        return '-'  # MABN has no mean in use
    name = ('chi2' if averages else 'var') if key == 'spread' else key
    values, measure = (layer.records, change) if part == 'records' else (layer.errors, distance)
    numbers = [measure(values[place]) for place in (name, f'{name}_in_use') if place in values]
    return ' -> '.join(f'{number:.2g}' for number in numbers if np.isfinite(number)) or '-'
