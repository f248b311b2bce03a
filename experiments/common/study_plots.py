"""Pictures of a study, readable without colours too."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .comparisons import Outcome
from .methods import METHODS
from .seeds import Cell, Measure, summarize
from .study_tables import cells

_SHADES = colormaps['tab20'].colors  # type: ignore[attr-defined]
_COLOURS = (*_SHADES[::2], *_SHADES[1::2])  # dark ones first
_MARKERS = 'osv^DPX*<>h'
_LINES = ('-', '--', ':', '-.', (0, (6, 1)), (0, (4, 1, 1, 1, 1, 1)), (0, (1, 1)))


def plot_comparison(outcome: Outcome, measures: Sequence[Measure], path: Path) -> None:
    """Draw up to four measures at the end over what changes, with the spread of the seeds."""
    comparison = outcome.comparison
    diverged = (
        f'{METHODS[method].label} at {value} ({cell.diverged} of {cell.seeds})'
        for method, row in cells(outcome, measures[0]).items()
        for value, cell in row.items()
        if cell.diverged
    )
    figure = _figure(_title(comparison.title, diverged), rows=2)
    panels = figure.subplots(2, 2).flat
    for axes in panels[len(measures) :]:
        axes.remove()
    for axes, measure in zip(panels[: len(measures)], measures, strict=True):
        rows = cells(outcome, measure)
        for number, (method, row) in enumerate(rows.items()):
            # Side by side, or the bars of one method would hide those of another.
            offset = number / max(1, len(rows) - 1) - 0.5
            places = [
                value * 2 ** (0.2 * offset) if comparison.log_axis else value + 0.2 * offset for value in row
            ]
            _draw(axes, method, places, list(row.values()))
        if comparison.log_axis:
            axes.set_xscale('log', base=2)
        axes.set_xticks(outcome.values, map(str, outcome.values))
        axes.set(xlabel=comparison.axis, ylabel=measure.label)
    _finish(figure, path)


def plot_rates(outcome: Outcome, rate: str, path: Path) -> None:
    """Draw what the learning rate was chosen by over the rates that were tried.

    Args:
        outcome: With the trials that chose.
        rate: What the rates are, with their unit.
        path: Of the picture.
    """
    measure = outcome.comparison.search.chosen_by
    values, axis = outcome.values, outcome.comparison.axis.partition(' (')[0]
    figure = _figure(f'{outcome.comparison.title}: choice of the learning rate', columns=len(values))
    panels = figure.subplots(1, len(values), sharey=True, squeeze=False).flat
    for axes, value in zip(panels, values, strict=True):
        for method, row in outcome.tuning.items():
            rates = [result['settings']['rate'] for result in row[value]]
            places = [
                measure.factor * result[measure.key][-1] if not result['diverged'] else math.nan
                for result in row[value]
            ]
            axes.plot(rates, places, **_style(method))
            chosen = outcome.compared[method][value][0]['settings']['rate']
            place = places[rates.index(chosen)]
            axes.plot(chosen, place, 'o', markersize=11, fillstyle='none', **_colour(method))
        axes.set_xscale('log')
        axes.set(title=f'{axis} {value}', xlabel=rate)
    figure.axes[0].set_ylabel(f'validation {measure.label}')
    _finish(figure, path)


def has_curves(outcome: Outcome, value: int, measure: Measure, epochs: int) -> bool:
    """Tell whether results are whole at one value: those of records have the ends of their curves alone."""
    results = (result for row in outcome.compared.values() for result in row[value])
    return all(result['diverged'] or len(result[measure.key]) == epochs for result in results)


def plot_curves(outcome: Outcome, value: int, measures: Sequence[Measure], path: Path) -> None:
    """Draw one or two measures of all methods over the epochs, at one value of what changes."""
    rows = {method: row[value] for method, row in outcome.compared.items()}
    last = {method: summarize(results, measures[0]) for method, results in rows.items()}
    diverged = (
        f'{METHODS[method].label} ({cell.diverged} of {cell.seeds})'
        for method, cell in last.items()
        if cell.diverged
    )
    axis = outcome.comparison.axis.partition(' (')[0]
    figure = _figure(_title(f'Training curves, {axis} {value}', diverged))
    epochs = range(1, 1 + max(len(r[measures[0].key]) for results in rows.values() for r in results))
    panels = figure.subplots(1, len(measures), squeeze=False).flat
    for axes, measure in zip(panels, measures, strict=True):
        for method, results in rows.items():
            _draw(axes, method, list(epochs), [summarize(results, measure, epoch - 1) for epoch in epochs])
        axes.set_xticks(epochs)
        axes.set(xlabel='epoch', ylabel=measure.label)
    _finish(figure, path)


def _figure(title: str, rows: int = 1, columns: int = 2) -> Figure:
    figure = Figure(figsize=(max(11, 3.5 * columns), 5 * rows), layout='constrained')
    figure.suptitle(title)
    return figure


def _draw(axes: Axes, method: str, places: Sequence[float], row: Sequence[Cell]) -> None:
    axes.errorbar(
        places,
        [math.nan if cell.mean is None else cell.mean for cell in row],  # a gap in the line
        [cell.spread or 0.0 for cell in row],
        capsize=2,
        elinewidth=0.8,
        **_style(method),
    )


def _style(method: str) -> dict[str, object]:
    number = list(METHODS).index(method)
    return _colour(method) | {
        'label': METHODS[method].label,
        'marker': _MARKERS[number % len(_MARKERS)],
        'linestyle': _LINES[number % len(_LINES)],
        'markersize': 5,
    }


def _colour(method: str) -> dict[str, object]:
    return {'color': _COLOURS[list(METHODS).index(method) % len(_COLOURS)]}


def _title(text: str, diverged: Iterable[str]) -> str:
    """Return the title, with a second line for what the curves do not show."""
    names = ', '.join(diverged)
    return f'{text}\ndiverged and not in the means: {names}' if names else text


def _finish(figure: Figure, path: Path) -> None:
    for axes in figure.axes:
        axes.grid(alpha=0.3)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    columns = min(int(figure.get_figwidth() / 2.7), len(labels))  # of the longest name
    figure.legend(handles, labels, loc='outside lower center', ncols=columns, handlelength=4)
    figure.savefig(path, dpi=120)
