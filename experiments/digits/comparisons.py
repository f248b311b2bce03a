"""Which trials the study consists of, and what they are compared over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .norms import COMPETITORS, paper_window_size
from .trials import Trial

SMALL_BATCH = 2  # images, for the sweeps of window and burn-in
BURN_IN = 3  # epochs of 12, as in the CBN paper


@dataclass(frozen=True)
class Scale:
    """How large a study is.

    Args:
        seeds: Trials of each kind, with seeds from 0.
        images: Training samples an epoch.
        batch_sizes: What accuracy is drawn over.
        window_sizes: k of the sweep.
        burn_ins: Epochs of the sweep.
    """

    seeds: int
    images: int
    batch_sizes: tuple[int, ...]
    window_sizes: tuple[int, ...]
    burn_ins: tuple[int, ...]


FULL = Scale(3, 600, (1, 2, 4, 8, 32), tuple(range(1, 9)), (0, 1, 3, 6, 9))
QUICK = Scale(2, 300, (2, 32), (1, 4, 8), (0, 3))


@dataclass(frozen=True)
class Comparison:
    """Trials of several methods over one setting, which make one table and one picture.

    Args:
        name: Stem of the picture's name.
        title: What is compared.
        axis: The setting that changes, with its unit.
        trials: For each method, for each value of the setting, one trial a seed.
        log_axis: Whether the values double rather than count.
    """

    name: str
    title: str
    axis: str
    trials: Mapping[str, Mapping[int, tuple[Trial, ...]]]
    log_axis: bool = False


def make_comparisons(scale: Scale) -> tuple[Comparison, ...]:
    """Return the comparisons of the papers' figures, at a scale."""
    windowed = [name for name, method in COMPETITORS.items() if method.has_window]
    corrected = [name for name in windowed if name != 'naive-cbn']

    def trials(method: str, batch_size: int, window_size: int, burn_in: int) -> tuple[Trial, ...]:
        if COMPETITORS[method].has_window and window_size == 1:
            method = 'bn'  # a window of one iteration is BN, and the same trials
        window = (window_size, burn_in) if COMPETITORS[method].has_window else ()
        return tuple(Trial(method, batch_size, seed, scale.images, *window) for seed in range(scale.seeds))

    small_window = paper_window_size(SMALL_BATCH)
    return (
        Comparison(
            'batch_size',
            'Batch sizes',
            'batch size (images)',
            {
                method: {
                    size: trials(method, size, paper_window_size(size), BURN_IN) for size in scale.batch_sizes
                }
                for method in COMPETITORS
            },
            log_axis=True,
        ),
        Comparison(
            'window_size',
            f'Window sizes at batch size {SMALL_BATCH}',
            'window size k (iterations)',
            {
                method: {k: trials(method, SMALL_BATCH, k, BURN_IN) for k in scale.window_sizes}
                for method in windowed
            },
        ),
        Comparison(
            'burn_in',
            f'Burn-in at batch size {SMALL_BATCH}, k = {small_window}',
            'burn-in (epochs of 12)',
            {
                method: {
                    epochs: trials(method, SMALL_BATCH, small_window, epochs) for epochs in scale.burn_ins
                }
                for method in corrected
            },
        ),
    )


def all_trials(comparisons: Iterable[Comparison]) -> Sequence[Trial]:
    """Return each trial of the comparisons once, seed by seed and the longest first."""
    trials = {
        trial
        for comparison in comparisons
        for row in comparison.trials.values()
        for cell in row.values()
        for trial in cell
    }
    return sorted(trials, key=lambda trial: (trial.seed, trial.batch_size, trial.name))
