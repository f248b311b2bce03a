"""What a study compares, and what came out of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from .rates import RateSearch, Read, Result, Trial


@dataclass(frozen=True)
class Comparison:
    """Settings of several methods over one value that changes, which make the tables and one picture.

    Args:
        name: Stem of the picture's name.
        title: What is compared.
        axis: What changes, with its unit.
        settings: For each method, for each value, a trial that stands for all rates and seeds.
        search: How their learning rates are chosen.
        log_axis: Whether the values double rather than count.
    """

    name: str
    title: str
    axis: str
    settings: Mapping[str, Mapping[int, Trial]]
    search: RateSearch
    log_axis: bool = False

    def columns(self) -> Iterator[tuple[int, list[Trial]]]:
        """Yield each value with its settings."""
        for value in next(iter(self.settings.values()), ()):
            yield value, list(dict.fromkeys(row[value] for row in self.settings.values()))


@dataclass(frozen=True)
class Outcome:
    """The results of a comparison, of those columns that all methods have finished.

    Args:
        comparison: Which one.
        compared: For each method, for each value of what changes, a result a seed.
        tuning: The same, with a result for each learning rate that was tried.
    """

    comparison: Comparison
    compared: Mapping[str, Mapping[int, Sequence[Result]]]
    tuning: Mapping[str, Mapping[int, Sequence[Result]]]

    @property
    def values(self) -> list[int]:
        """What the columns are of."""
        return list(next(iter(self.compared.values())))


def read_outcome(comparison: Comparison, seeds: int, read: Read) -> Outcome | None:
    """Read what came out of a comparison; None before a column of it is whole.

    Args:
        comparison: Which one.
        seeds: Trials of each kind.
        read: Returns the result of a trial, None where there is none yet.
    """
    search = comparison.search
    compared = {method: {} for method in comparison.settings}
    tuning = {method: {} for method in comparison.settings}
    for value, _ in comparison.columns():
        settings = {method: row[value] for method, row in comparison.settings.items()}
        trials = {
            method: search.compared_trials(setting, seeds, read) for method, setting in settings.items()
        }
        if all(of and all(map(read, of)) for of in trials.values()):
            for method, setting in settings.items():
                compared[method][value] = [read(trial) for trial in trials[method]]
                tuning[method][value] = [read(trial) for trial in search.tuning_trials(setting, read)]
    outcome = Outcome(comparison, compared, tuning)
    return outcome if outcome.values else None
