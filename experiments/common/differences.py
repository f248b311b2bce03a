"""Which differences between methods the seeds bear out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from scipy.stats import t

from .seeds import Measure

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Difference:
    """A mean difference, paired over seeds, and its interval of confidence.

    Args:
        mean: Of the seeds.
        low: Where the interval begins.
        high: Where it ends.
    """

    mean: float
    low: float
    high: float

    @property
    def sign(self) -> int:
        """1 or -1 where the whole interval is above or below 0, else 0: no difference."""
        return (self.low > 0) - (self.high < 0)


def paired_difference(
    results: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]], measure: Measure
) -> Difference | None:
    """Compare two methods by a paired t interval over their seeds.

    Args:
        results: Of one method, one a seed.
        others: Of the other one, for the same seeds in the same order.
        measure: What is compared, after the last epoch.

    Returns:
        How far ``results`` are above ``others``, in the unit of the label; None for fewer than two seeds of
        which neither diverged.
    """
    differences = [
        measure.factor * (result[measure.key][-1] - other[measure.key][-1])
        for result, other in zip(results, others, strict=True)
        if result['diverged'] is None and other['diverged'] is None
    ]
    count = len(differences)
    if count < 2:
        return None
    middle = mean(differences)
    half = float(t.ppf((1 + CONFIDENCE) / 2, count - 1)) * stdev(differences) / count**0.5
    return Difference(middle, middle - half, middle + half)


def format_difference(difference: Difference, digits: int) -> str:
    """Return e.g. ``+1.4 (+0.3 to +2.5)``."""
    middle, low, high = (
        f'{value:+.{digits}f}' for value in (difference.mean, difference.low, difference.high)
    )
    return f'{middle} ({low} to {high})'
