"""Drawing losses and metrics of one or several runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .runs import Row, Run

METRICS = ('coco/bbox_mAP', 'coco/bbox_mAP_50', 'coco/segm_mAP', 'coco/segm_mAP_50')
_LINES_INSIDE = 4
_STYLES = ('-', '--', '-.', ':')
_NAMES = {
    'coco/bbox_mAP': 'box AP',
    'coco/bbox_mAP_50': 'box AP50',
    'coco/segm_mAP': 'mask AP',
    'coco/segm_mAP_50': 'mask AP50',
    'accuracy/top1': 'top-1 (%)',
    'mIoU': 'mIoU (%)',
}


def plot_curves(
    runs: Mapping[str, Run],
    path: str | Path,
    metrics: Sequence[str] = METRICS,
    loss: str = 'loss',
    loss_by_epoch: bool = False,
) -> None:
    """Draw the loss over the iterations, and metrics over the validations.

    Each run has a colour; where there are several, each metric has a line style as well.

    Args:
        runs: The runs by the names that the legend gives them.
        path: The picture to write; its ending names the format, e.g. ``.png``.
        metrics: Names of columns of ``Run.val``. Runs without one of them are drawn without it.
        loss: Name of a column of ``Run.train``.
        loss_by_epoch: Whether to draw the loss over the epochs instead, on which runs with different
            batch sizes meet. All runs have to count epochs then.
    """
    figure = Figure(figsize=(11, 4), layout='constrained')
    left, right = figure.subplots(1, 2)
    alone = len(runs) == 1
    for number, (name, run) in enumerate(runs.items()):
        rows = [row for row in run.train if loss in row]
        steps = _epochs(rows) if loss_by_epoch else [row['step'] for row in rows]
        left.plot(steps, [row[loss] for row in rows], color=f'C{number}', label=name)
        for style, metric in enumerate(metrics):
            rows = [row for row in run.val if metric in row]
            if rows:
                label = _NAMES.get(metric, metric)
                right.plot(
                    [row['step'] for row in rows],
                    [row[metric] for row in rows],
                    linestyle='-' if alone else _STYLES[style % len(_STYLES)],
                    color=f'C{style if alone else number}',
                    marker='.',
                    label=label if alone else f'{name}, {label}',
                )
    left.set(xlabel='epoch' if loss_by_epoch else 'iteration', ylabel=loss, title='Training loss')
    by_epoch = any(run.by_epoch for run in runs.values())
    right.set(xlabel='epoch' if by_epoch else 'iteration', title='Validation')
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if len(axes.lines) > _LINES_INSIDE:  # a long legend would hide the curves
            axes.legend(loc='upper center', bbox_to_anchor=(0.5, -0.15), fontsize='small')
        elif axes.lines:
            axes.legend()
    lines = max(len(axes.lines) for axes in (left, right))
    if lines > _LINES_INSIDE:
        figure.set_figheight(4.5 + 0.2 * lines)
    figure.savefig(path, dpi=120)


def _epochs(rows: Sequence[Row]) -> list[float]:
    """Place the rows of each epoch evenly, as they are logged; the log has no length of an epoch."""
    places = []
    for number, row in enumerate(rows):
        goes_on = number > 0 and rows[number - 1]['epoch'] == row['epoch']
        places.append(places[-1] + 1 if goes_on else 1)
    return [row['epoch'] - 1 + place / max(places) for row, place in zip(rows, places, strict=True)]
