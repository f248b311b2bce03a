"""What the study compares: norms over the images of a process, in each regime."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ..common.comparisons import Comparison
from ..common.methods import METHODS
from .regimes import REGIMES
from .trials import DetectionRun

IMAGES = ('train_images', 'held_out')  # numbers of them


def make_comparisons(
    regimes: Collection[str],
    methods: Collection[str],
    batch_sizes: Sequence[int],
    epochs: int | None = None,
    photographs: int = 0,
    **shared: int,
) -> tuple[Comparison, ...]:
    """Return a comparison for each regime.

    Args:
        regimes: Names in ``REGIMES``.
        methods: Names in ``METHODS``.
        batch_sizes: Images a process and iteration.
        epochs: Of each run; those of its regime if None.
        photographs: How many images the regime has that takes them.
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
                        method,
                        size,
                        0,
                        regime.search.rates[0],
                        name,
                        epochs or regime.epochs,
                        **shared | (dict.fromkeys(IMAGES, photographs) if regime.photographs else {}),
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
