"""Paired differences against an interval from a table of Student's distribution."""

import pytest

from experiments.common.differences import Difference, format_difference, paired_difference
from experiments.common.seeds import Measure

ACCURACY = Measure('accuracy', 'accuracy (%)', 100.0, 1)


def seeds(*values):
    """Results that ended at these values, None where they diverged."""
    return [
        {'accuracy': [] if value is None else [0.0, value], 'diverged': 1 if value is None else None}
        for value in values
    ]


def test_interval():
    """Differences 1 to 5: mean 3, standard deviation sqrt(2.5); the quantile at 4 degrees is 2.776445."""
    found = paired_difference(seeds(0.51, 0.62, 0.73, 0.84, 0.95), seeds(0.5, 0.6, 0.7, 0.8, 0.9), ACCURACY)
    half = 2.776445 * 2.5**0.5 / 5**0.5
    assert found.mean == pytest.approx(3)
    assert (found.low, found.high) == (pytest.approx(3 - half), pytest.approx(3 + half))
    assert format_difference(found, 1) == '+3.0 (+1.0 to +5.0)'


def test_pairs_take_out_what_the_seeds_share():
    """Far apart between seeds, nearly the same difference in each: unpaired, nothing could be said."""
    higher, lower = seeds(0.12, 0.517, 0.92), seeds(0.1, 0.5, 0.9)
    assert paired_difference(higher, lower, ACCURACY).sign == 1
    assert paired_difference(lower, higher, ACCURACY).sign == -1
    assert paired_difference(higher[::-1], lower, ACCURACY).sign == 0


def test_it_is_none_where_the_interval_holds_0():
    assert [Difference(1.0, *limits).sign for limits in ((0.5, 1.5), (-0.1, 2.1), (0.0, 2.0))] == [1, 0, 0]
    assert Difference(-1.0, -1.5, -0.5).sign == -1
    assert paired_difference(seeds(0.5, 0.6), seeds(0.5, 0.6), ACCURACY).sign == 0  # the same trials


def test_seeds_that_diverged_are_left_out():
    others = seeds(0.5, 0.6, 0.7, 0.8)
    found = paired_difference(seeds(0.51, 0.62, 0.73, None), others, ACCURACY)
    assert found == paired_difference(seeds(0.51, 0.62, 0.73), others[:3], ACCURACY)
    assert paired_difference(seeds(0.5), seeds(0.4), ACCURACY) is None
    assert paired_difference(seeds(0.5, None), seeds(0.4, 0.4), ACCURACY) is None
