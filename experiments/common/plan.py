"""Which trials of a study are left, in their order, and how long they will take."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from .comparisons import Comparison
from .rates import RateSearch, Read, Trial

HEADING = ('comparison', 'at', 'new settings', 'trials left', 'iterations', 'hours', 'hours so far')


def known_trials(comparisons: Iterable[Comparison], seeds: int, read: Read) -> Iterator[Trial]:
    """Yield all trials that can be named by now, a column of the tables after the other, each once."""
    named = set()
    for comparison in comparisons:
        for _, settings in comparison.columns():
            for setting in settings:
                for trial in comparison.search.trials_of(setting, seeds, read):
                    if trial not in named:
                        named.add(trial)
                        yield trial


def expected_trials(setting: Trial, search: RateSearch, seeds: int, read: Read) -> list[Trial]:
    """Return the trials that a setting takes if no further rates are called for.

    Where the rate is not chosen yet, those at that rate stand at some other.
    """
    known = search.trials_of(setting, seeds, read)
    if not any(trial.split == 'test' for trial in known):
        known += [replace(setting, seed=seed) for seed in range(seeds)]
    return known


def count_expected(comparisons: Iterable[Comparison], seeds: int, read: Read) -> int:
    """Return how many trials the comparisons take if no further rates are called for."""
    searches = {
        setting: comparison.search
        for comparison in comparisons
        for _, column in comparison.columns()
        for setting in column
    }
    return sum(len(expected_trials(setting, search, seeds, read)) for setting, search in searches.items())


def plan(
    comparisons: Iterable[Comparison],
    seeds: int,
    read: Read,
    workers: int,
    seconds: Callable[[Trial], float],
) -> list[list[str]]:
    """Return a table of what is left to run, a row for each column of the tables.

    Args:
        comparisons: In their order. Trials have ``all_iterations``, those of a whole run.
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
                for trial in expected_trials(setting, comparison.search, seeds, read)
                if read(trial) is None
            ]
            hours = sum(map(seconds, left)) / 3600 / workers
            total += hours
            iterations = sum(trial.all_iterations for trial in left)
            row = (comparison.name, value, len(settings), len(left), iterations)
            rows.append([*map(str, row), f'{hours:.2f}', f'{total:.2f}'])
    return rows
