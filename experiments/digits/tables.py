"""Tables of the study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..common.seeds import Cell, Measure, format_cell, summarize
from ..common.tables import csv_table, markdown_table
from .comparisons import Comparison
from .norms import COMPETITORS
from .trials import Trial

Results = Mapping[Trial, Mapping[str, Any]]

ACCURACY = Measure('accuracy', 'accuracy on held-out samples (%)', 100.0, 1)
TRAINING_LOSS = Measure('training_loss', 'training loss (nats)')
MEASURES = (ACCURACY, TRAINING_LOSS)


def cells(comparison: Comparison, results: Results, measure: Measure) -> dict[str, dict[int, Cell]]:
    """Summarize all settings of a comparison: for each method, for each value of what changes."""
    return {
        method: {
            value: summarize([results[trial] for trial in trials], measure) for value, trials in row.items()
        }
        for method, row in comparison.trials.items()
    }


def table(comparison: Comparison, results: Results, measure: Measure) -> list[list[str]]:
    """Return a table as rows of text, the first of which is the heading."""
    rows = cells(comparison, results, measure)
    values = next(iter(rows.values()))
    body = [
        [COMPETITORS[method].label, *(format_cell(cell, measure.digits) for cell in row.values())]
        for method, row in rows.items()
    ]
    return [[comparison.axis, *map(str, values)], *body]


def to_markdown(comparisons: Sequence[Comparison], results: Results) -> str:
    """Return the tables of all comparisons in Markdown."""
    parts = []
    for comparison in comparisons:
        parts.append(f'## {comparison.title}')
        for measure in MEASURES:
            parts.append(f'{measure.label[0].upper()}{measure.label[1:]}:')
            parts.append(markdown_table(table(comparison, results, measure)))
    return '\n\n'.join(parts) + '\n'


def to_csv(results: Results) -> str:
    """Return one line a trial: its settings, what it reached last, and how long it took."""
    settings = next(iter(results.values()))['settings']
    last, other = ('training_loss', 'held_out_loss', 'accuracy'), ('diverged', 'seconds', 'torch')
    rows = [
        [
            *result['settings'].values(),
            *(result[name][-1] if result[name] else None for name in last),
            *(result[name] for name in other),
        ]
        for result in results.values()
    ]
    return csv_table([[*settings, *last, *other], *rows])
