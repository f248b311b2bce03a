"""Tables of what the benchmarks measured."""

from collections.abc import Mapping, Sequence

from ..common.tables import markdown_table

Row = Mapping[str, str | float | None]
RATIOS = {
    'train_ratio': 'training step',
    'eval_ratio': 'eval mode',
    'folded_ratio': 'folded',
    'peak_ratio': 'peak memory',
}
DIGITS = {'train_ms': 1, 'gflop': 0, 'state_mb': 1, 'operations': 0}


def to_markdown(rows: Sequence[Row]) -> str:
    """Lay out the rows of one benchmark.

    Those of layers become one table for each ratio to BN, with a row a norm and a column a case, and the
    absolute times and memory; those of a model one table as they are.
    """
    if 'case' not in rows[0]:
        return markdown_table(
            [list(rows[0]), *([_text(name, value) for name, value in row.items()] for row in rows)]
        )
    cases = list(dict.fromkeys(row['case'] for row in rows))
    norms = list(dict.fromkeys(row['norm'] for row in rows))
    by_place = {(row['norm'], row['case']): row for row in rows}
    titles = {key: f'{title}, beside BN' for key, title in RATIOS.items()}
    titles |= {
        'operations': 'operations a step, views not counted',
        'train_ms': 'training step, ms',
        'state_mb': 'kept between iterations beyond BN, MB',
    }
    return '\n\n'.join(
        markdown_table(
            [
                [title, *cases],
                *([norm, *(_text(key, by_place[norm, case][key]) for case in cases)] for norm in norms),
            ]
        )
        for key, title in titles.items()
    )


def _text(name: str, value: str | float | None) -> str:
    if value is None:
        return '-'
    return value if isinstance(value, str) else f'{value:.{DIGITS.get(name, 2)}f}'
