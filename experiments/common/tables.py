"""Tables, given as rows of which the first is the heading."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from io import StringIO

from terminaltables import GithubFlavoredMarkdownTable

Rows = Sequence[Sequence[str]]


def markdown_table(rows: Rows, numbers: Iterable[int] = ()) -> str:
    """Return a table in Markdown, readable as it stands too; the columns ``numbers`` are right-aligned."""
    table = GithubFlavoredMarkdownTable([[cell.replace('|', '\\|') for cell in row] for row in rows])
    table.justify_columns = dict.fromkeys(numbers, 'right')
    return table.table


def text_table(rows: Rows) -> str:
    """Return a table with aligned columns, for the screen."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return '\n'.join('  '.join(map(str.ljust, row, widths)).rstrip() for row in rows)


def csv_table(rows: Iterable[Iterable[object]]) -> str:
    """Return a table for programs; None becomes an empty field."""
    stream = StringIO()
    csv.writer(stream, lineterminator='\n').writerows(rows)
    return stream.getvalue()
