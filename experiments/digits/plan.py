"""Which trials are left, in their order, and how long they will take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cache

from .comparisons import Comparison
from .evaluation import evaluate
from .rates import RATES, Read, trials_of
from .task import endless_batches, held_out_samples
from .trials import EPOCHS, Training, Trial

STEPS = 10  # that are timed, after as many that fill windows and caches
HEADING = ('comparison', 'at', 'new settings', 'trials left', 'iterations', 'hours', 'hours so far')


def known_trials(comparisons: Iterable[Comparison], seeds: int, read: Read) -> Iterator[Trial]:
    """Yield all trials that can be named by now, a column of the tables after the other, each once."""
    named = set()
    for comparison in comparisons:
        for _, settings in comparison.columns():
            for setting in settings:
                for trial in trials_of(setting, seeds, read):
                    if trial not in named:
                        named.add(trial)
                        yield trial


def expected_trials(setting: Trial, seeds: int, read: Read) -> list[Trial]:
    """Return the trials that a setting takes if no further rates are called for.

    Where the rate is not chosen yet, those at that rate stand at some other.
    """
    known = trials_of(setting, seeds, read)
    if not any(trial.split == 'test' for trial in known):
        known += [replace(setting, seed=seed) for seed in range(seeds)]
    return known


def count_expected(comparisons: Iterable[Comparison], seeds: int, read: Read) -> int:
    """Return how many trials the comparisons take if no further rates are called for."""
    settings = {s for comparison in comparisons for _, column in comparison.columns() for s in column}
    return sum(len(expected_trials(setting, seeds, read)) for setting in settings)


def plan(
    comparisons: Iterable[Comparison],
    seeds: int,
    read: Read,
    workers: int,
    seconds: Callable[[Trial], float],
) -> list[list[str]]:
    """Return a table of what is left to run, a row for each column of the tables.

    Args:
        comparisons: In their order.
        seeds: Trials of each kind.
        read: Returns the result of a trial, None where there is none yet.
        workers: Trials at a time.
        seconds: Returns how long a trial takes.
    """
    rows, planned, total = [list(HEADING)], set(), 0.0
    for comparison in comparisons:
        for value, column in comparison.columns():
            settings = [setting for setting in column if setting not in planned]
            planned.update(settings)
            left = [
                trial
                for setting in settings
                for trial in expected_trials(setting, seeds, read)
                if read(trial) is None
            ]
            hours = sum(map(seconds, left)) / 3600 / workers
            total += hours
            iterations = sum(EPOCHS * trial.iterations for trial in left)
            row = (comparison.name, value, len(settings), len(left), iterations)
            rows.append([*map(str, row), f'{hours:.2f}', f'{total:.2f}'])
    return rows


def trial_seconds(trial: Trial) -> float:
    """Estimate how long a trial takes on one thread, from a few of its steps."""
    step, evaluation = _measured(replace(trial, seed=0, images=1, burn_in=0, rate=RATES[0], split='test'))
    return EPOCHS * (trial.iterations * step + evaluation)


@cache
def _measured(trial: Trial) -> tuple[float, float]:
    """Return the seconds of a training step and of an evaluation."""
    training = Training(trial)
    batches = list(endless_batches(trial.iteration_images, STEPS))
    for _ in range(2):
        start = time.perf_counter()
        for samples in batches:
            training.step(samples, lr=RATES[0])
        step = (time.perf_counter() - start) / STEPS
    held_out = held_out_samples(trial.split, trial.held_out)
    start = time.perf_counter()
    evaluate(training.network, held_out)
    return step, time.perf_counter() - start
