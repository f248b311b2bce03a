"""Tables and a picture of what the benchmarks measured."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from ..common.tables import markdown_table

Row = Mapping[str, str | float | None]
RATIOS = {
    'train_ratio': 'training step',
    'eval_ratio': 'eval mode',
    'folded_ratio': 'folded',
    'peak_ratio': 'peak memory',
}
DIGITS = {'train_ms': 1, 'gflop': 0, 'state_mb': 1}


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
    titles |= {'train_ms': 'training step, ms', 'state_mb': 'kept between iterations beyond BN, MB'}
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


def plot(rows: Sequence[Row], path: Path, title: str) -> None:
    """Draw the time of a training step beside BN, a bar for each norm and a panel for each case.

    Args:
        rows: As for :func:`to_markdown`.
        path: The PNG to write.
        title: Names the machine.
    """
    cases = list(dict.fromkeys(row.get('case', 'training step of the model') for row in rows))
    figure = Figure(figsize=(1.5 + 2.6 * len(cases), 3.6), layout='constrained')
    panels = figure.subplots(1, len(cases), sharey=True, squeeze=False)[0]
    for panel, case in zip(panels, cases, strict=True):
        of_case = [row for row in rows if row.get('case', case) == case]
        bars = panel.barh(
            [row['norm'] for row in of_case], [row['train_ratio'] for row in of_case], color='0.6'
        )
        panel.bar_label(bars, fmt='%.2f', label_type='center', fontsize=8)
        panel.axvline(1, color='black', linewidth=0.8)
        panel.margins(x=0.2)
        panel.set_title(str(case), fontsize=9)
        panel.set_xlabel('time of a training step / BN')
    panels[0].invert_yaxis()
    figure.suptitle(title, fontsize=9)
    figure.savefig(path, dpi=120)
