"""Tables, given as rows of which the first is the heading."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Iterator, Sequence
from io import StringIO

Rows = Sequence[Sequence[str]]


def markdown_table(rows: Rows, numbers: Iterable[int] = ()) -> str:
    """Return a table in Markdown, readable as it stands too; the columns ``numbers`` are right-aligned."""
    rows = [[cell.replace('|', '\\|') for cell in row] for row in rows]
    right = {*numbers}
    rule = [
        '-' * (width + 1) + ('-', ':')[column in right] for column, width in enumerate(column_widths(rows))
    ]
    lines = [f'| {" | ".join(cells)} |' for cells in align(rows, right)]
    return '\n'.join((lines[0], f'|{"|".join(rule)}|', *lines[1:]))


def text_table(rows: Rows) -> str:
    """Return a table with aligned columns, for the screen."""
    return '\n'.join('  '.join(cells).rstrip() for cells in align(rows))


def column_widths(rows: Rows) -> list[int]:
    """Return the length of the longest cell of each column."""
    return [max(map(len, column)) for column in zip(*rows, strict=True)]


def align(rows: Rows, right: Collection[int] = ()) -> Iterator[list[str]]:
    """Yield the rows with the cells of a column filled up to one width, those of ``right`` on the left."""
    widths = column_widths(rows)
    for row in rows:
        yield [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]


def csv_table(rows: Iterable[Iterable[object]]) -> str:
    """Return a table for programs; None becomes an empty field."""
    stream = StringIO()
    csv.writer(stream, lineterminator='\n').writerows(rows)
    return stream.getvalue()
