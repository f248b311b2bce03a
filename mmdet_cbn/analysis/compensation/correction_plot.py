"""Drawing how good CBN's correction of earlier statistics is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from .correction import Averages, CorrectionErrors

_RUNS: tuple[tuple[str, Any], ...] = (('C0', '-'), ('C1', '--'), ('C2', ':'), ('C3', '-.'))
_ESTIMATES: dict[str, dict[str, Any]] = {
    'not corrected (Naive CBN)': {'marker': 'o', 'markerfacecolor': 'white'},
    'corrected (CBN, eq. 7, 8)': {'marker': 's'},
    r'with the exact quadratic $\nu$': {'marker': 'x', 'markersize': 7},
}
_LABELS = {
    'mean': 'error of the mean\n[standard deviations]',
    'var': 'error of the variance\n[relative to the variance]',
}
_SPREAD = 'spread between batches'


def plot_correction(
    runs: Mapping[str, CorrectionErrors], path: str | Path, title: str, burn_in: int = 0
) -> None:
    """Draw the error over the lag (late in the run), and over the iterations (at the largest lag).

    Each run has a colour and a style of lines, each estimate a marker; the exact quadratic nu is there for
    the variance over the lag, where it differs from the correction if anywhere. A line without markers is the
    spread of the statistics between batches.

    Args:
        runs: Up to four runs by their names, all with the same lags.
        path: The picture to write; its ending names the format.
        title: What was measured.
        burn_in: Iterations with BN, whose end a vertical line marks; 0 for none.

    Raises:
        ValueError: There are more than four runs.
    """
    if len(runs) > len(_RUNS):
        raise ValueError(f'at most {len(_RUNS)} runs can be told apart in one picture, got {len(runs)}')
    figure = Figure(figsize=(10, 7.5), layout='constrained')
    figure.suptitle(title)
    panels = figure.subplots(2, 2, sharex='row', sharey='col')
    lag = max(max(errors.lags) for errors in runs.values())
    for (colour, line), errors in zip(_RUNS, runs.values(), strict=False):
        late, along = errors.over_lags(), errors.over_iterations()
        for statistic, upper, lower in zip(_LABELS, *panels, strict=True):
            # The mean is linear in the filter, so for it the third estimate is the second.
            _draw(upper, errors.lags, late, statistic, 2 if statistic == 'mean' else 3, colour, line)
            _draw(lower, errors.iterations, along, statistic, 2, colour, line)
    for statistic, upper, lower in zip(_LABELS, *panels, strict=True):
        upper.set(xlabel='lag [iterations], later half of the run', ylabel=_LABELS[statistic])
        lower.set(xlabel=f'iteration, at lag {lag}', ylabel=_LABELS[statistic])
        if burn_in:
            lower.axvline(burn_in, color='black', linewidth=1)
        upper.xaxis.set_major_locator(MaxNLocator(integer=True))
        for axes in (upper, lower):
            axes.set_yscale('log')
            axes.grid(alpha=0.3)
    handles = [
        Line2D([], [], color=colour, linestyle=line, label=name)
        for (colour, line), name in zip(_RUNS, runs, strict=False)
    ]
    handles += [
        Line2D([], [], color='black', linestyle='none', label=label, **marker)
        for label, marker in _ESTIMATES.items()
    ]
    handles.append(Line2D([], [], color='black', linewidth=1, alpha=0.5, label=_SPREAD))
    figure.legend(handles=handles, loc='outside lower center', ncols=4, fontsize='small')
    figure.savefig(path, dpi=72)


def _draw(
    axes: Axes,
    places: Sequence[int],
    averages: Averages,
    statistic: str,
    estimates: int,
    colour: str,
    line: Any,
) -> None:
    values = getattr(averages, statistic).T[:estimates]
    for row, marker in zip(values, _ESTIMATES.values(), strict=False):
        axes.plot(places, row, color=colour, linestyle=line, **{'markersize': 5, **marker})
    spread = np.broadcast_to(getattr(averages, f'{statistic}_spread'), len(places))
    axes.plot(places, spread, color=colour, linestyle=line, linewidth=1, alpha=0.5)
