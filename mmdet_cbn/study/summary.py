"""Means, spreads and tables of the study."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from statistics import mean, stdev
from typing import Any

from .comparisons import Comparison
from .methods import METHODS
from .trials import Trial

Results = Mapping[Trial, Mapping[str, Any]]


@dataclass(frozen=True)
class Cell:
    """What the seeds of one setting reached.

    Args:
        mean: Of the seeds that did not diverge; None where all did.
        spread: Their standard deviation (with n - 1); None for fewer than two.
        diverged: How many seeds diverged.
        seeds: How many there are.
    """

    mean: float | None
    spread: float | None
    diverged: int
    seeds: int


@dataclass(frozen=True)
class Measure:
    """A curve of the results, one value an epoch, whose last value is compared.

    Args:
        key: In the results.
        label: What it is, with its unit.
        factor: From the results' unit to that of the label.
        digits: After the point.
    """

    key: str
    label: str
    factor: float = 1.0
    digits: int = 2


ACCURACY = Measure('accuracy', 'accuracy on held-out samples (%)', 100.0, 1)
TRAINING_LOSS = Measure('training_loss', 'training loss (nats)')
MEASURES = (ACCURACY, TRAINING_LOSS)


def summarize(results: Sequence[Mapping[str, Any]], measure: Measure, epoch: int = -1) -> Cell:
    """Summarize the seeds of one setting after an epoch, by default the last one.

    A seed that diverged counts as such in all epochs, so that a mean stands for the same seeds throughout.
    """
    values = [measure.factor * result[measure.key][epoch] for result in results if result['diverged'] is None]
    return Cell(
        mean(values) if values else None,
        stdev(values) if len(values) > 1 else None,
        len(results) - len(values),
        len(results),
    )


def cells(comparison: Comparison, results: Results, measure: Measure) -> dict[str, dict[int, Cell]]:
    """Summarize all settings of a comparison: for each method, for each value of what changes."""
    return {
        method: {
            value: summarize([results[trial] for trial in trials], measure) for value, trials in row.items()
        }
        for method, row in comparison.trials.items()
    }


def format_cell(cell: Cell, digits: int) -> str:
    """Return e.g. ``87.3 ± 0.4``, ``87.3 ± 0.4 (1 of 3 diverged)`` or ``diverged``."""
    if cell.mean is None:
        return 'diverged'
    text = f'{cell.mean:.{digits}f}'
    if cell.spread is not None:
        text += f' ± {cell.spread:.{digits}f}'
    return text + (f' ({cell.diverged} of {cell.seeds} diverged)' if cell.diverged else '')


def table(comparison: Comparison, results: Results, measure: Measure) -> list[list[str]]:
    """Return a table as rows of text, the first of which is the heading."""
    rows = cells(comparison, results, measure)
    values = next(iter(rows.values()))
    body = [
        [METHODS[method].label, *(format_cell(cell, measure.digits) for cell in row.values())]
        for method, row in rows.items()
    ]
    return [[comparison.axis, *map(str, values)], *body]


def to_markdown(comparisons: Sequence[Comparison], results: Results) -> str:
    """Return the tables of all comparisons in Markdown."""
    parts = []
    for comparison in comparisons:
        parts.append(f'## {comparison.title}')
        for measure in MEASURES:
            heading, *body = table(comparison, results, measure)
            parts.append(f'{measure.label[0].upper()}{measure.label[1:]}:')
            parts.append('\n'.join(map(_markdown_row, [heading, ['---'] * len(heading), *body])))
    return '\n\n'.join(parts) + '\n'


def _markdown_row(row: Sequence[str]) -> str:
    return f'| {" | ".join(row)} |'


def to_text(rows: Sequence[Sequence[str]]) -> str:
    """Return a table with aligned columns, for the screen."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    align: Callable[[str, int], str] = str.ljust
    return '\n'.join('  '.join(map(align, row, widths)).rstrip() for row in rows)


def to_csv(results: Results) -> str:
    """Return one line a trial: its settings, what it reached last, and how long it took."""
    columns = (*next(iter(results.values()))['settings'], 'training_loss', 'held_out_loss', 'accuracy')
    stream = StringIO()
    writer = csv.writer(stream, lineterminator='\n')
    writer.writerow((*columns, 'diverged', 'seconds', 'torch'))
    for result in results.values():
        last = {name: result[name][-1] if result[name] else '' for name in columns[-3:]}
        values = result['settings'] | last | {name: result[name] for name in ('diverged', 'seconds', 'torch')}
        writer.writerow(values.values())
    return stream.getvalue()
