"""Drawing the statistics of a layer along training runs (MABN, Figures 2 to 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from ...whole_file import whole_file
from .file import LayerStatistics

# Later runs are drawn over earlier ones, in thinner lines.
_RUNS: tuple[dict[str, Any], ...] = (
    {'color': 'C0', 'linestyle': '-', 'linewidth': 1.8},
    {'color': 'C1', 'linestyle': '-', 'linewidth': 0.9},
    {'color': 'C2', 'linestyle': '--', 'linewidth': 1.2},
    {'color': 'black', 'linestyle': ':', 'linewidth': 1.2},
)
_MARKERS = 'os^D'
MOST_RUNS = len(_RUNS)
"""Runs that can be told apart in one picture."""


def plot_norms(runs: Mapping[str, LayerStatistics], path: str | Path, title: str) -> None:
    """Draw the l2 norms of a layer's statistics, a panel for each, the runs over each other.

    A line is what was in use. Where that is not the batch's own statistic, this one is drawn as well, pale.
    MABN has the mean of squares in the panel of the variance.

    Args:
        runs: One layer in up to :data:`MOST_RUNS` runs, by the names of the runs.
        path: The picture to write; its ending names the format.
        title: What was recorded.

    Raises:
        ValueError: There are too many runs.
    """
    figure, panels = _panels(runs, title, 4)
    pale = False
    for axes, label, names in zip(
        panels,
        (r'mean, $\|\mu\|_2$', _spread_label(runs), r'backward, $\|g\|_2$', r'backward, $\|\Psi\|_2$'),
        (('mean',), ('chi2', 'var'), ('g',), ('psi',)),
        strict=True,
    ):
        for look, layer in zip(_RUNS, runs.values(), strict=False):
            name = next((name for name in names if f'{name}_in_use' in layer.records), names[-1])
            calls, own = layer.records['call'], layer.records[name]
            used = layer.records.get(f'{name}_in_use')
            if used is not None:
                axes.plot(calls, own, **look | {'alpha': 0.35})
                pale = True
            axes.plot(calls, own if used is None else used, **look)
        axes.set_ylabel(label)
        if names != ('mean',):
            _set_log_scale(axes)
    notes = [Line2D([], [], color='grey', alpha=0.5, label='pale: of the batch, not in use')] if pale else []
    _finish(figure, runs, [{}] * len(runs), notes, path)


def plot_errors(runs: Mapping[str, LayerStatistics], path: str | Path, title: str) -> bool:
    """Draw how far a layer's statistics are from those of a reference batch, and CBN's correction.

    Panels for which no run has values are left out; where none is left, nothing is written.

    Args:
        runs: One layer in up to :data:`MOST_RUNS` runs, by the names of the runs.
        path: The picture to write; its ending names the format.
        title: What was recorded.

    Returns:
        Whether there was something to draw.

    Raises:
        ValueError: There are too many runs.
    """
    distances = [names for names in (('mean',), ('var', 'chi2')) if _any(runs, 'errors', names)]
    window = [name for name in ('compensation', 'clamped') if _any(runs, 'records', (name,))]
    if not distances and not window:
        return False
    figure, panels = _panels(runs, title, len(distances) + len(window))
    markers: list[dict[str, Any]] = [{'marker': marker, 'markersize': 4} for marker in _MARKERS]
    for axes, names in zip(panels, distances, strict=False):
        for look, marker, layer in zip(_RUNS, markers, runs.values(), strict=False):
            for name in names:
                _draw_distance(axes, layer.errors, name, look | marker | {'linewidth': 1.2})
        _set_log_scale(axes)
        axes.set_ylabel(_distance_label(runs, names))
    for axes, name in zip(panels[len(distances) :], window, strict=True):
        for look, layer in zip(_RUNS, runs.values(), strict=False):
            if name in layer.records:
                axes.plot(layer.records['call'], layer.records[name], **look | {'linewidth': 1.2})
        top = max(axes.get_ylim()[1], 0.01)
        axes.set_ylim(-0.02 * top, top)  # a line at 0 is seen
        axes.set_ylabel(
            'share of clamped channels'
            if name == 'clamped'
            else 'correction of the mean\n[standard deviations]'
        )
    notes = []
    if distances:
        open_marker: dict[str, Any] = {'marker': 'o', 'markersize': 4, 'markerfacecolor': 'white'}
        notes.append(Line2D([], [], color='grey', alpha=0.6, label='of the batch, not in use', **open_marker))
        notes.append(Line2D([], [], color='grey', marker='o', markersize=4, label='in use'))
    _finish(figure, runs, markers, notes, path)
    return True


def _spread_label(runs: Mapping[str, LayerStatistics]) -> str:
    averages = ['chi2_in_use' in layer.records for layer in runs.values()]
    if all(averages):
        return r'mean of squares, $\|\chi^2\|_2$'
    return r'variance, $\|\sigma^2\|_2$' + (r' (MABN: $\|\chi^2\|_2$)' if any(averages) else '')


def _distance_label(runs: Mapping[str, LayerStatistics], names: Sequence[str]) -> str:
    if names == ('mean',):
        return 'error of the mean\n[standard deviations]'
    of_var, of_chi2 = (any(name in layer.errors for layer in runs.values()) for name in names)
    what = r'$\sigma^2$ (MABN: $\chi^2$)' if of_var and of_chi2 else r'$\chi^2$' if of_chi2 else r'$\sigma^2$'
    return f'error of {what}\n[relative]'


def _any(runs: Mapping[str, LayerStatistics], part: str, names: Sequence[str]) -> bool:
    """Tell whether any run has values of one of these names."""
    return any(
        np.isfinite(values).any()
        for layer in runs.values()
        for name, values in getattr(layer, part).items()
        if name in names
    )


def _draw_distance(axes: Axes, errors: Mapping[str, np.ndarray], name: str, look: Mapping[str, Any]) -> None:
    if name not in errors:
        return
    own: Mapping[str, Any] = look
    if f'{name}_in_use' in errors:
        own = {**look, 'alpha': 0.6, 'markerfacecolor': 'white'}
        axes.plot(errors['call'], errors[f'{name}_in_use'], **look)
    axes.plot(errors['call'], errors[name], **own)


def _set_log_scale(axes: Axes) -> None:
    axes.set_yscale('log')
    low, high = axes.get_ylim()
    if high < 100 * low:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter('{x:g}')
    axes.yaxis.set_minor_formatter(NullFormatter())


def _panels(runs: Mapping[str, LayerStatistics], title: str, count: int) -> tuple[Figure, list[Axes]]:
    if len(runs) > MOST_RUNS:
        raise ValueError(f'at most {MOST_RUNS} runs can be told apart in one picture, got {len(runs)}')
    rows = (count + 1) // 2
    figure = Figure(figsize=(10, 1 + 2.6 * rows), layout='constrained')
    figure.suptitle(title)
    panels = figure.subplots(rows, 2, sharex=True, squeeze=False).ravel().tolist()
    for axes in panels[count:]:
        axes.remove()
    return figure, panels[:count]


def _finish(
    figure: Figure,
    runs: Mapping[str, LayerStatistics],
    markers: Sequence[Mapping[str, Any]],
    notes: Sequence[Line2D],
    path: str | Path,
) -> None:
    for axes in figure.axes:
        axes.grid(alpha=0.3)
        axes.set_xlabel('training forwards')
        axes.tick_params(labelbottom=True)
    handles = [
        Line2D([], [], label=name, **look, **marker)
        for look, marker, name in zip(_RUNS, markers, runs, strict=False)
    ]
    figure.legend(handles=[*handles, *notes], loc='outside lower center', ncols=6, fontsize='small')
    with whole_file(path) as partial:
        figure.savefig(partial, dpi=80)
