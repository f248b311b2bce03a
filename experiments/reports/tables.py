"""Tables of runs in the papers' layout, ours beside the numbers of paper and repository."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..common.tables import csv_table, markdown_table
from .entries import METRICS, Entry

_SHOWN_CHANGES = 4
_SOURCES = ('paper', 'repository')
_ENDINGS = ('', ' paper', ' difference', ' repository', ' difference to repository')


def label_entries(entries: Sequence[Entry]) -> list[str]:
    """Name entries by their folders, as briefly as tells them apart.

    Args:
        entries: The entries of a report.

    Returns:
        A name for each: that of its folder, or the path of it where two folders bear one name.
    """
    names = [entry.work_dir.resolve().name for entry in entries]
    return [
        name if names.count(name) == 1 else str(entry.work_dir)
        for name, entry in zip(names, entries, strict=True)
    ]


def to_markdown(entries: Sequence[Entry]) -> str:
    """Write a report: a table of where the runs stand, and one of the results.

    Args:
        entries: What to report, in this order.

    Returns:
        Markdown text. The second table holds finished and evaluated runs: a line with our numbers, and below
        those of the paper and of its authors' repository, where they have the experiment, each with the
        difference. Columns are there of the kinds (box, mask, top-1, ...) that any run has.
    """
    named = list(zip(label_entries(entries), entries, strict=True))
    rows = [[label, entry.config, entry.status, entry.where] for label, entry in named]
    parts = ['## Runs', markdown_table([['run', 'config', 'status', 'where it stands'], *rows])]
    changes = [f'- {label}: {_list_changes(entry.changed)}' for label, entry in named if entry.changed]
    if changes:
        parts += ['Settings other than those of the config:', '\n'.join(changes)]

    final = [(label, entry) for label, entry in named if entry.final]
    if final:
        parts += [
            '## Results',
            _results(final),
            'Metrics in percent; a dash stands for a number that there is not.',
        ]
    return '\n\n'.join(parts) + '\n'


def to_csv(entries: Sequence[Entry]) -> str:
    """Write a report for programs, one line a run.

    Args:
        entries: What to report, in this order.

    Returns:
        Lines of comma-separated values below a line of names. Numbers of runs that are not finished
        are the last ones measured; they have no difference.
    """
    columns = [f'{name}{ending}' for name in METRICS.values() for ending in _ENDINGS]
    rows = [['run', 'config', 'status', 'where', 'changed', *columns]]
    for label, entry in zip(label_entries(entries), entries, strict=True):
        lines = [_numbers(entry.ours)]
        for source in _SOURCES:
            lines.append(_numbers(entry.published.get(source, {})))
            lines.append(_numbers(entry.differences.get(source, {}), sign='+'))
        numbers = [line.get(name, '') for name in METRICS.values() for line in lines]
        changed = '; '.join(entry.changed)
        rows.append([label, entry.config, entry.status, entry.where, changed, *numbers])
    return csv_table(rows)


def _results(entries: Sequence[tuple[str, Entry]]) -> str:
    kinds = {
        name.partition(' ')[0]
        for _, entry in entries
        for metrics in (entry.ours, *entry.published.values())
        for name in metrics
    } or {'box'}
    columns = [name for name in METRICS.values() if name.partition(' ')[0] in kinds]
    rows = [['run', '', *(name if name.endswith(' AP') else name.split(' ')[-1] for name in columns)]]
    for label, entry in entries:
        lines = [('ours', _numbers(entry.ours))]
        for source, metrics in entry.published.items():
            lines.append((source, _numbers(metrics)))
            lines.append(('difference', _numbers(entry.differences[source], sign='+')))
        for source, line in lines:
            rows.append([label, source, *(line.get(name, '-') for name in columns)])
            label = ''
    return markdown_table(rows, numbers=range(2, len(rows[0])))


def _list_changes(changed: Sequence[str]) -> str:
    shown = ', '.join(f'`{change}`' for change in changed[:_SHOWN_CHANGES])
    more = len(changed) - _SHOWN_CHANGES
    return f'{shown} and {more} more' if more > 0 else shown


def _numbers(values: Mapping[str, float], sign: str = '') -> dict[str, str]:
    return {name: f'{round(value, 1) + 0.0:{sign}.1f}' for name, value in values.items()}
