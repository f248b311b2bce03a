"""What came out of a comparison, where it is whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .comparisons import Comparison
from .rates import Read, Result, compared_trials, tuning_trials


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
    compared = {method: {} for method in comparison.settings}
    tuning = {method: {} for method in comparison.settings}
    for value, _ in comparison.columns():
        settings = {method: row[value] for method, row in comparison.settings.items()}
        trials = {method: compared_trials(setting, seeds, read) for method, setting in settings.items()}
        if all(of and all(map(read, of)) for of in trials.values()):
            for method, setting in settings.items():
                compared[method][value] = [read(trial) for trial in trials[method]]
                tuning[method][value] = [read(trial) for trial in tuning_trials(setting, read)]
    outcome = Outcome(comparison, compared, tuning)
    return outcome if outcome.values else None
