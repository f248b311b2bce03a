"""At which learning rate each method is compared: its own best one, chosen on the validation split."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from .trials import Trial

Result = Mapping[str, Any]
Read = Callable[[Trial], Result | None]

RATES = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)  # for each image of an iteration
FIRST = slice(2, 6)  # of those; others follow where the best one has not both neighbours
TUNING_SEED = 1000  # apart from those of the trials that are compared
# The rate is to make good weights; how well ten batches estimate their statistics is another question.
CHOSEN_BY = 'population_accuracy'


def tuning_trials(setting: Trial, read: Read) -> list[Trial]:
    """Return the trials that choose the rate of a setting, ascending, as far as they can be named by now.

    Args:
        setting: A trial of it; its rate, split and seed do not count.
        read: Returns the result of a trial, None where there is none yet.
    """
    tuning = [replace(setting, rate=rate, split='validation', seed=TUNING_SEED) for rate in RATES]
    tried = set(range(len(RATES))[FIRST])
    while all(read(tuning[index]) is not None for index in tried):
        best = max(sorted(tried), key=lambda index: score(read(tuning[index])))
        around = {best - 1, best, best + 1} & set(range(len(RATES)))
        if around <= tried:
            break
        tried |= around
    return [tuning[index] for index in sorted(tried)]


def score(result: Result) -> float:
    """Return the accuracy that the rate is chosen by, -1 where the trial diverged."""
    return -1.0 if result['diverged'] else result[CHOSEN_BY][-1]


def compared_trials(setting: Trial, seeds: int, read: Read) -> list[Trial] | None:
    """Return the trials of a setting that are compared, one a seed, None before its rate is chosen."""
    tuning = tuning_trials(setting, read)
    if any(read(trial) is None for trial in tuning):
        return None
    best = max(tuning, key=lambda trial: score(read(trial)))  # of equal ones the smallest rate
    return [replace(best, split='test', seed=seed) for seed in range(seeds)]


def trials_of(setting: Trial, seeds: int, read: Read) -> list[Trial]:
    """Return all trials of a setting that can be named by now, in their order."""
    return tuning_trials(setting, read) + (compared_trials(setting, seeds, read) or [])
