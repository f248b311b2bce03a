"""Pictures of the study, readable without colours too."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..common.seeds import Cell, summarize
from .comparisons import Comparison
from .norms import COMPETITORS
from .tables import ACCURACY, MEASURES, Results, cells
from .trials import EPOCHS

_MARKERS = 'osv^DPX'
_LINES = ('-', '--', ':', '-.', (0, (6, 1)), (0, (4, 1, 1, 1, 1, 1)), (0, (1, 1)))


def plot_comparison(comparison: Comparison, results: Results, path: Path) -> None:
    """Draw accuracy and training loss at the end over what changes, with the spread of the seeds."""
    diverged = (
        f'{COMPETITORS[method].label} at {value} ({cell.diverged} of {cell.seeds})'
        for method, row in cells(comparison, results, ACCURACY).items()
        for value, cell in row.items()
        if cell.diverged
    )
    figure, panels = _figure(_title(f'{comparison.title}: after {EPOCHS} epochs', diverged))
    for axes, measure in zip(panels, MEASURES, strict=True):
        rows = cells(comparison, results, measure)
        for number, (method, row) in enumerate(rows.items()):
            # Side by side, or the bars of one method would hide those of another.
            offset = number / max(1, len(rows) - 1) - 0.5
            places = [
                value * 2 ** (0.2 * offset) if comparison.log_axis else value + 0.2 * offset for value in row
            ]
            _draw(axes, method, places, list(row.values()))
        values = list(next(iter(rows.values())))
        if comparison.log_axis:
            axes.set_xscale('log', base=2)
        axes.set_xticks(values, map(str, values))
        axes.set(xlabel=comparison.axis, ylabel=measure.label)
    _finish(figure, panels, path)


def plot_curves(comparison: Comparison, value: int, results: Results, path: Path) -> None:
    """Draw accuracy and training loss of all methods over the epochs, at one value of what changes."""
    last = {method: row[value] for method, row in cells(comparison, results, ACCURACY).items()}
    diverged = (
        f'{COMPETITORS[method].label} ({cell.diverged} of {cell.seeds})'
        for method, cell in last.items()
        if cell.diverged
    )
    figure, panels = _figure(
        _title(f'Training curves, {comparison.axis.partition(" (")[0]} {value}', diverged)
    )
    epochs = range(1, EPOCHS + 1)
    for axes, measure in zip(panels, MEASURES, strict=True):
        for method, row in comparison.trials.items():
            seeds = [results[trial] for trial in row[value]]
            _draw(axes, method, list(epochs), [summarize(seeds, measure, epoch - 1) for epoch in epochs])
        axes.set_xticks(epochs)
        axes.set(xlabel='epoch', ylabel=measure.label)
    _finish(figure, panels, path)


def _figure(title: str) -> tuple[Figure, Sequence[Axes]]:
    figure = Figure(figsize=(11, 5), layout='constrained')
    figure.suptitle(title)
    return figure, figure.subplots(1, 2)


def _draw(axes: Axes, method: str, places: Sequence[float], row: Sequence[Cell]) -> None:
    number = list(COMPETITORS).index(method)
    axes.errorbar(
        places,
        [math.nan if cell.mean is None else cell.mean for cell in row],  # a gap in the line
        [cell.spread or 0.0 for cell in row],
        label=COMPETITORS[method].label,
        color=f'C{number}',
        marker=_MARKERS[number],
        linestyle=_LINES[number],
        capsize=2,
        elinewidth=0.8,
        markersize=5,
    )


def _title(text: str, diverged: Iterable[str]) -> str:
    """Return the title, with a second line for what the curves do not show."""
    names = ', '.join(diverged)
    return f'{text}\ndiverged and not in the means: {names}' if names else text


def _finish(figure: Figure, panels: Sequence[Axes], path: Path) -> None:
    for axes in panels:
        axes.grid(alpha=0.3)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc='outside lower center', ncols=len(labels), handlelength=4)
    figure.savefig(path, dpi=120)
