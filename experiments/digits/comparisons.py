"""What the study compares: in which regimes, over what."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from ..common.comparisons import Comparison
from ..common.methods import REFERENCE
from .measures import SEARCH
from .norms import COMPETITORS, SYNC, paper_window_size
from .trials import Trial

SMALL_BATCH = 2  # images, for the sweeps of window and burn-in
BURN_IN = 3  # epochs of 12, as in the CBN paper
WORKERS = 8  # as many as GPUs in the papers


@dataclass(frozen=True)
class Scale:
    """How large a study is.

    Args:
        seeds: Trials of each kind, with seeds from 0.
        images: Training samples an epoch, where their number is the same for all.
        batch_sizes: What accuracy is drawn over.
        worker_batch_sizes: The same for several workers.
        window_sizes: k of the sweep.
        burn_ins: Epochs of the sweep.
        held_out: Samples of an evaluation.
    """

    seeds: int
    images: int
    batch_sizes: tuple[int, ...]
    worker_batch_sizes: tuple[int, ...]
    window_sizes: tuple[int, ...]
    burn_ins: tuple[int, ...]
    held_out: int = 1000


FULL = Scale(5, 600, (1, 2, 4, 8, 32), (1, 2, 4), tuple(range(1, 9)), (0, 1, 3, 6, 9))
QUICK = Scale(2, 300, (2, 32), (2,), (1, 8), (0, 3), held_out=200)


def make_comparisons(scale: Scale, methods: Collection[str] = tuple(COMPETITORS)) -> tuple[Comparison, ...]:
    """Return the comparisons in the order in which they run, at a scale.

    Args:
        scale: How large they are.
        methods: Which of ``COMPETITORS`` take part.
    """
    methods = [name for name in COMPETITORS if name in methods]
    alone = [name for name in methods if name != SYNC]
    reference = [name for name in methods if name == REFERENCE]
    windowed = [name for name in alone if COMPETITORS[name].has_window]
    corrected = [name for name in windowed if name != 'naive-cbn']

    def setting(
        method: str,
        batch_size: int,
        images: int = scale.images,
        window_size: int | None = None,
        burn_in: int = BURN_IN,
        workers: int = 1,
    ) -> Trial:
        window_size = window_size or paper_window_size(batch_size)
        if COMPETITORS[method].has_window and window_size == 1:
            method = REFERENCE  # a window of one iteration is BN, and the same trials
        window = (window_size, burn_in) if COMPETITORS[method].has_window else (1, 0)
        return Trial(method, batch_size, 0, images, *window, workers, held_out=scale.held_out)

    comparisons = (
        Comparison(
            'batch_size',
            'Batch sizes at equal numbers of images',
            'batch size (images)',
            {method: {size: setting(method, size) for size in scale.batch_sizes} for method in alone},
            SEARCH,
            log_axis=True,
        ),
        Comparison(
            'workers',
            f'Batch sizes of each of {WORKERS} workers at equal numbers of iterations',
            'batch size (images a worker)',
            {
                method: {
                    size: setting(method, size, scale.images * size, workers=WORKERS)
                    for size in scale.worker_batch_sizes
                }
                for method in methods
            },
            SEARCH,
            log_axis=True,
        ),
        Comparison(
            'iterations',
            'Batch sizes at equal numbers of iterations',
            'batch size (images)',
            {
                method: {
                    size: setting(method, size, scale.images // SMALL_BATCH * size)
                    for size in scale.batch_sizes
                }
                for method in alone
            },
            SEARCH,
            log_axis=True,
        ),
        Comparison(
            'window_size',
            f'Window sizes at batch size {SMALL_BATCH}',
            'window size k (iterations)',
            {
                method: {k: setting(method, SMALL_BATCH, window_size=k) for k in scale.window_sizes}
                for method in (*reference, *windowed)
            },
            SEARCH,
        ),
        Comparison(
            'burn_in',
            f'Burn-in at batch size {SMALL_BATCH}, k = {paper_window_size(SMALL_BATCH)}',
            'burn-in (epochs of 12)',
            {
                method: {epochs: setting(method, SMALL_BATCH, burn_in=epochs) for epochs in scale.burn_ins}
                for method in (*reference, *corrected)
            },
            SEARCH,
        ),
    )
    return tuple(comparison for comparison in comparisons if {*comparison.settings} - {*reference})
