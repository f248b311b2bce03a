"""Means, spreads and tables of the detection study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..common.methods import METHODS
from ..common.seeds import Measure, format_cell, summarize
from ..common.tables import csv_table, markdown_table
from .plan import DetectionRun

Results = Mapping[DetectionRun, Mapping[str, Any]]

MEASURES = (Measure('box_ap', 'box AP', 100.0, 1), Measure('mask_ap', 'mask AP', 100.0, 1))
NOTES = """\
COCO AP in percent on the validation set after the last epoch: mean ± standard deviation over n seeds; a dash
stands for what has not been run. The batch size is that of one process. SyncBN is `NaiveCBN` with
`window_size=1, sync=True`, which is the same function and runs on CPUs too.
"""


def table(results: Results) -> list[list[str]]:
    """Return a table as rows of text, the first of which is the heading.

    Args:
        results: What there is, of any of the runs.

    Returns:
        A row for each method that was run, and for each batch size the columns box AP, mask AP and n.
    """
    methods = [method for method in METHODS if any(run.method == method for run in results)]
    sizes = sorted({run.batch_size for run in results})
    heading = ['norm']
    for size in sizes:
        heading += [f'{measure.label}, batch {size}' for measure in MEASURES] + ['n']
    return [heading, *(_row(method, sizes, results) for method in methods)]


def _row(method: str, sizes: Sequence[int], results: Results) -> list[str]:
    row = [METHODS[method].label]
    for size in sizes:
        seeds = [result for run, result in results.items() if (run.method, run.batch_size) == (method, size)]
        row += [
            format_cell(summarize(seeds, measure), measure.digits) if seeds else '-' for measure in MEASURES
        ]
        row.append(str(len(seeds)))
    return row


def to_markdown(results: Results) -> str:
    """Return the table in Markdown, with what its numbers are."""
    return f'{markdown_table(table(results))}\n\n{NOTES}'


def to_csv(results: Results) -> str:
    """Return one line a run: what it was, what it reached, and how long it took."""
    other = ('diverged', 'seconds', 'torch')
    rows = [
        [
            *(run.method, run.batch_size, run.seed),
            *(result[measure.key][-1] for measure in MEASURES),
            *(result[name] for name in other),
        ]
        for run, result in results.items()
    ]
    return csv_table([['method', 'batch_size', 'seed', *(m.key for m in MEASURES), *other], *rows])
