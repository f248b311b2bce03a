"""What the study compares: in which regimes, over what."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from torch import nn

from mmdet_cbn.layers.window import Window

from ..common.comparisons import Comparison
from ..common.methods import REFERENCE
from .measures import SEARCH
from .norms import COMPETITORS, SYNC
from .trials import Trial

SMALL_BATCH = 2  # images, for the sweeps of window and burn-in
BURN_IN = 3  # epochs of 12, as in the CBN paper
WORKERS = 8  # as many as GPUs in the papers
# Of the comparisons, in the order in which they run.
NAMES = ('batch_size', 'parts', 'workers', 'iterations', 'span', 'window_size', 'burn_in')

# They tell the parts of other methods apart, at one batch size.
PARTS = (
    'naive-cbn-cen',
    'cbn-cen',
    'cbn-exponential',
    'cbn-exponential-window-gradient',
    'cbn-growing-window-gradient-cen',
    'mabn-plain',
)


@dataclass(frozen=True)
class Scale:
    """How large a study is.

    Args:
        seeds: Trials of each kind, with seeds from 0.
        images: Training samples an epoch, where their number is the same for all.
        batch_sizes: What accuracy is drawn over.
        worker_batch_sizes: The same for several workers.
        window_sizes: k of the sweep.
        spans: k of the sweep of growing averages.
        burn_ins: Epochs of the sweep.
        held_out: Samples of an evaluation.
    """

    seeds: int
    images: int
    batch_sizes: tuple[int, ...]
    worker_batch_sizes: tuple[int, ...]
    window_sizes: tuple[int, ...]
    spans: tuple[int, ...]
    burn_ins: tuple[int, ...]
    held_out: int = 1000


FULL = Scale(5, 600, (1, 2, 4, 8, 32), (1, 2, 4), tuple(range(1, 9)), (1, 4, 8, 16, 32, 64), (0, 1, 3, 6, 9))
QUICK = Scale(2, 300, (2, 32), (2,), (1, 8), (1, 8), (0, 3), held_out=200)


def make_comparisons(
    scale: Scale, methods: Collection[str] = tuple(COMPETITORS), names: Collection[str] = NAMES
) -> tuple[Comparison, ...]:
    """Return the comparisons in the order in which they run, at a scale.

    Args:
        scale: How large they are.
        methods: Which of ``COMPETITORS`` take part.
        names: Which of ``NAMES``.
    """
    everywhere = [name for name in COMPETITORS if name in methods and name not in PARTS]
    alone = [name for name in everywhere if name != SYNC]
    windowed = [name for name in alone if COMPETITORS[name].has_burn_in]
    corrected = [name for name in windowed if name != 'naive-cbn']
    growing = [name for name in alone if COMPETITORS[name].window_size and name not in windowed]
    parts = [name for name in COMPETITORS if name in methods and name in PARTS]
    reference = [name for name in everywhere if name == REFERENCE]

    def setting(
        method: str,
        batch_size: int,
        images: int = scale.images,
        window_size: int | None = None,
        burn_in: int = BURN_IN,
        workers: int = 1,
    ) -> Trial:
        rule = COMPETITORS[method].window_size
        k = 1 if rule is None else window_size or rule(batch_size)
        if rule and k == 1:  # a window of one iteration is BN, and the same trials
            method = REFERENCE if COMPETITORS[method].conv is nn.Conv2d else 'bn-cen'
        burn_in = burn_in if COMPETITORS[method].has_burn_in else 0
        return Trial(method, batch_size, 0, images, k, burn_in, workers, held_out=scale.held_out)

    def comparison(
        name: str,
        title: str,
        axis: str,
        rows: Collection[str],
        values: Collection[int],
        make: Callable[[str, int], Trial],
        log_axis: bool = True,
    ) -> Comparison:
        settings = {method: {value: make(method, value) for value in values} for method in rows}
        return Comparison(name, title, axis, settings, SEARCH, log_axis)

    def with_window(method: str, k: int) -> Trial:
        return setting(method, SMALL_BATCH, window_size=k)

    comparisons = (
        comparison(
            'batch_size',
            'Batch sizes at equal numbers of images',
            'batch size (images)',
            alone,
            scale.batch_sizes,
            setting,
        ),
        comparison(
            'parts',
            'What the parts of the methods do',
            'batch size (images)',
            [*reference, *parts],
            (SMALL_BATCH,),
            setting,
        ),
        comparison(
            'workers',
            f'Batch sizes of each of {WORKERS} workers at equal numbers of iterations',
            'batch size (images a worker)',
            everywhere,
            scale.worker_batch_sizes,
            lambda method, size: setting(method, size, scale.images * size, workers=WORKERS),
        ),
        comparison(
            'iterations',
            'Batch sizes at equal numbers of iterations',
            'batch size (images)',
            alone,
            scale.batch_sizes,
            lambda method, size: setting(method, size, scale.images // SMALL_BATCH * size),
        ),
        comparison(
            'span',
            f'Final spans of growing averages at batch size {SMALL_BATCH}',
            'span k (iterations)',
            [*reference, *growing],
            scale.spans,
            with_window,
        ),
        comparison(
            'window_size',
            f'Window sizes at batch size {SMALL_BATCH}',
            'window size k (iterations)',
            [*reference, *windowed],
            scale.window_sizes,
            with_window,
            log_axis=False,
        ),
        comparison(
            'burn_in',
            f'Burn-in at batch size {SMALL_BATCH}, k = {Window.size_for(SMALL_BATCH)}',
            'burn-in (epochs of 12)',
            [*reference, *corrected],
            scale.burn_ins,
            lambda method, epochs: setting(method, SMALL_BATCH, burn_in=epochs),
            log_axis=False,
        ),
    )
    return tuple(
        comparison
        for comparison in comparisons
        if comparison.name in names and {*comparison.settings} - {*reference}
    )
