"""Pictures of what the benchmarks measured."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from .norms import REFERENCE
from .tables import Row


def plot(rows: Sequence[Row], path: Path, title: str) -> None:
    """Draw the time of a training step beside BN, a bar for each norm and a panel for each case.

    Args:
        rows: As for :func:`.tables.to_markdown`.
        path: The PNG to write.
        title: Names the machine.
    """
    cases = list(dict.fromkeys(row.get('case', 'training step of the model') for row in rows))
    norms = len({row['norm'] for row in rows})
    figure = Figure(figsize=(1.5 + 2.6 * len(cases), 1.2 + 0.2 * norms), layout='constrained')
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


def plot_growth(rows: Sequence[Row], path: Path, title: str) -> None:
    """Draw time, peak and memory of CBN over each axis.

    Args:
        rows: The fields of :class:`.growth.Point`.
        path: The PNG to write.
        title: Names the machine.
    """
    axes = list(dict.fromkeys(row['axis'] for row in rows))
    norms = [norm for norm in dict.fromkeys(row['norm'] for row in rows) if norm != REFERENCE]
    measures = {
        'train_ratio': 'time of a step / BN',
        'peak_ratio': 'memory at its peak / BN',
        'kept_weights': 'kept between steps,\nin sizes of the weights',
    }
    figure = Figure(figsize=(10, 7.5), layout='constrained')
    panels = figure.subplots(len(measures), len(axes), sharey='row', sharex='col')
    for column, axis in zip(panels.T, axes, strict=True):
        values = list(dict.fromkeys(row['value'] for row in rows if row['axis'] == axis))
        for panel, measure in zip(column, measures, strict=True):
            for norm in norms:
                of_norm = [row[measure] for row in rows if (row['axis'], row['norm']) == (axis, norm)]
                panel.plot(values, of_norm, marker='.', label=norm)
            panel.set_xscale('log', base=2)
            panel.set_xticks(values, values)
            panel.grid(alpha=0.3)
        column[-1].set_xlabel(axis)
    for panel, label in zip(panels[:, 0], measures.values(), strict=True):
        panel.set_ylabel(label)
    panels[0, 0].legend(fontsize=8)
    figure.suptitle(title, fontsize=9)
    figure.savefig(path, dpi=120)
