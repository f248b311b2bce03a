"""At which learning rate each method is compared: its own best one, chosen on the validation split."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .seeds import Measure

Trial = Any  # a frozen dataclass with ``rate``, ``split`` and ``seed`` among its fields
Result = Mapping[str, Any]
Read = Callable[[Trial], Result | None]

TUNING_SEED = 1000  # apart from those of the trials that are compared


@dataclass(frozen=True)
class RateSearch:
    """How a study chooses learning rates.

    Args:
        rates: Ascending.
        first: The slice of them that is tried; others follow where the best one has not both neighbours.
        chosen_by: What decides.
    """

    rates: tuple[float, ...]
    first: slice
    chosen_by: Measure

    def tuning_trials(self, setting: Trial, read: Read) -> list[Trial]:
        """Return the trials that choose the rate of a setting, ascending, as far as they can be named by now.

        Args:
            setting: A trial of it; its rate, split and seed do not count.
            read: Returns the result of a trial, None where there is none yet.
        """
        tuning = [replace(setting, rate=rate, split='validation', seed=TUNING_SEED) for rate in self.rates]
        tried = set(range(len(self.rates))[self.first])
        while all(read(tuning[index]) is not None for index in tried):
            best = max(sorted(tried), key=lambda index: self.score(read(tuning[index])))
            around = {best - 1, best, best + 1} & set(range(len(self.rates)))
            if around <= tried:
                break
            tried |= around
        return [tuning[index] for index in sorted(tried)]

    def score(self, result: Result) -> float:
        """Return a number that is larger for a better rate, the least where the trial diverged."""
        if result['diverged']:
            return -math.inf
        value: float = result[self.chosen_by.key][-1]
        return -value if self.chosen_by.less_is_better else value

    def compared_trials(self, setting: Trial, seeds: int, read: Read) -> list[Trial] | None:
        """Return the trials of a setting that are compared, one a seed, None before its rate is chosen."""
        tuning = self.tuning_trials(setting, read)
        if any(read(trial) is None for trial in tuning):
            return None
        best = max(tuning, key=lambda trial: self.score(read(trial)))  # of equal ones the smallest rate
        return [replace(best, split='test', seed=seed) for seed in range(seeds)]

    def trials_of(self, setting: Trial, seeds: int, read: Read) -> list[Trial]:
        """Return all trials of a setting that can be named by now, in their order."""
        return self.tuning_trials(setting, read) + (self.compared_trials(setting, seeds, read) or [])
