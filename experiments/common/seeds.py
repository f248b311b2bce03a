"""Mean and spread of what several seeds reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any


@dataclass(frozen=True)
class Cell:
    """What the seeds of one setting reached.

    Args:
        mean: Of the seeds that did not diverge; None where all did.
        spread: Their standard deviation (with n - 1); None for fewer than two.
        diverged: How many seeds diverged.
        seeds: How many there are.
    """

    mean: float | None
    spread: float | None
    diverged: int
    seeds: int


@dataclass(frozen=True)
class Measure:
    """A curve of the results, whose last value is compared.

    Args:
        key: In the results.
        label: What it is, with its unit.
        factor: From the results' unit to that of the label.
        digits: After the point.
        less_is_better: Whether the lowest is the best.
    """

    key: str
    label: str
    factor: float = 1.0
    digits: int = 2
    less_is_better: bool = False


def summarize(results: Sequence[Mapping[str, Any]], measure: Measure, epoch: int = -1) -> Cell:
    """Summarize the seeds of one setting after an epoch, by default the last one.

    A seed that diverged counts as such in all epochs, so that a mean stands for the same seeds throughout.
    """
    values = [measure.factor * result[measure.key][epoch] for result in results if result['diverged'] is None]
    return Cell(
        mean(values) if values else None,
        stdev(values) if len(values) > 1 else None,
        len(results) - len(values),
        len(results),
    )


def format_cell(cell: Cell, digits: int) -> str:
    """Return e.g. ``87.3 ± 0.4``, ``87.3 ± 0.4 (1 of 3 diverged)`` or ``diverged``."""
    if cell.mean is None:
        return 'diverged'
    text = f'{cell.mean:.{digits}f}'
    if cell.spread is not None:
        text += f' ± {cell.spread:.{digits}f}'
    return text + (f' ({cell.diverged} of {cell.seeds} diverged)' if cell.diverged else '')
