"""What the study compares: norms over the images of a process, in each regime."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ..common.comparisons import Comparison
from ..common.methods import METHODS
from .regimes import REGIMES
from .trials import DetectionRun


def make_comparisons(
    regimes: Collection[str],
    methods: Collection[str],
    batch_sizes: Sequence[int],
    epochs: int | None = None,
    **shared: int,
) -> tuple[Comparison, ...]:
    """Return a comparison for each regime.

    Args:
        regimes: Names in ``REGIMES``.
        methods: Names in ``METHODS``.
        batch_sizes: Images a process and iteration.
        epochs: Of each run; those of its regime if None.
        shared: What all runs have in common besides, of the arguments of :class:`DetectionRun`.
    """
    return tuple(
        Comparison(
            name,
            f'{regime.title}: after {epochs or regime.epochs} epochs',
            'batch size (images a process)',
            {
                method: {
                    size: DetectionRun(
                        method, size, 0, regime.search.rates[0], name, epochs or regime.epochs, **shared
                    )
                    for size in batch_sizes
                }
                for method in METHODS
                if method in methods
            },
            regime.search,
            log_axis=True,
        )
        for name, regime in REGIMES.items()
        if name in regimes
    )
