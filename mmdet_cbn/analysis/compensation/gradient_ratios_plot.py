"""Drawing gradient ratios over the layers (CBN, Figure 6)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .gradient_ratios import STATISTICS, Ratio, mean_ratios

_TITLES = {'mean': r'mean $\mu$', 'mean_square': r'mean of squares $\nu$'}
_LOOKS = {1: ('C0', 'o', '-'), 2: ('C1', 's', '--')}


def plot_gradient_ratios(ratios: Sequence[Ratio], path: str | Path, title: str) -> None:
    """Draw one panel a statistic: the ratio over the layers, and its mean as a line across.

    Bars show two standard errors where ratios are estimated.

    Args:
        ratios: What :func:`gradient_ratios` returned for the distances 1 and 2.
        path: The picture to write; its ending names the format.
        title: What was measured.
    """
    order = {name: place for place, name in enumerate(dict.fromkeys(ratio.layer for ratio in ratios), 2)}
    means = {(mean.statistic, mean.distance): mean for mean in mean_ratios(ratios)}
    figure = Figure(figsize=(10, 3.8), layout='constrained')
    figure.suptitle(f'{title} (lines: mean over layers)')
    for statistic, axes in zip(STATISTICS, figure.subplots(1, 2, sharey=True), strict=True):
        for distance, (colour, marker, line) in _LOOKS.items():
            group = [r for r in ratios if (r.statistic, r.distance) == (statistic, distance)]
            if not group:
                continue
            mean = means[statistic, distance]
            # A little apart, so that neither hides the other.
            places = [order[ratio.layer] + 0.2 * (2 * distance - 3) for ratio in group]
            axes.errorbar(
                places,
                [ratio.value for ratio in group],
                [2 * ratio.standard_error for ratio in group],
                color=colour,
                marker=marker,
                markersize=4,
                markerfacecolor=colour if distance == 1 else 'white',
                linestyle='none',
                label=f'$r = l - {distance}$, mean {mean.value:.2g}',
            )
            axes.axhline(mean.value, color=colour, linestyle=line, linewidth=1)
        axes.set(title=_TITLES[statistic], xlabel='layer $l$, in order of execution')
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend(fontsize='small')
    figure.axes[0].set_yscale('log')
    figure.axes[0].set_ylabel(
        r'$\|\partial s^l/\partial\theta^r\|_F\;/\;\|\partial s^l/\partial\theta^l\|_F$'
    )
    figure.savefig(path, dpi=100)
