"""The numbers of recorded statistics against values worked out by hand."""

from math import log, nan

import numpy as np
import pytest

from mmdet_cbn.analysis.statistics.file import LayerStatistics
from mmdet_cbn.analysis.statistics.summary import change, distance, table


@pytest.mark.parametrize(
    ('values', 'expected'),
    [
        ([9, 1, 9, 2, 4, 1], (log(2) + log(4)) / 2),  # up counts as down, the first half not at all
        ([1, 1, 1, 8, 4, nan, 2, 1, 3, 9], (log(2) + 2 * log(3)) / 3),
        ([1, 1, 1, 0, 5, 10], log(2)),
        ([7, 7, 7, 7], 0),
    ],
)
def test_change(values, expected):
    assert change(np.array(values, dtype=float)) == pytest.approx(expected, abs=1e-12)


def test_distance():
    assert distance(np.array([9.0, 9, 1, nan, 3, 8])) == pytest.approx(5.5)


@pytest.mark.parametrize('values', [[], [1.0], [nan] * 6])
def test_without_values_there_is_no_number(values):
    assert np.isnan(change(np.array(values)))
    assert np.isnan(distance(np.array([nan, *values])[:1]))


def run(in_use: tuple[str, ...], errors: bool) -> LayerStatistics:
    """Return a run whose norms double in each record, and have grown by half more where they are in use."""
    own, used = 2.0 ** np.arange(8), 1.5 ** np.arange(8)
    records = {'call': np.arange(8), **dict.fromkeys(('mean', 'var', 'chi2', 'g', 'psi'), own)}
    records |= {f'{name}_in_use': used for name in in_use}
    measured = {name: np.array([9.0, 0.25]) for name in ('mean', 'var', 'chi2')} if errors else {}
    measured |= {f'{name}_in_use': np.array([9.0, 0.125]) for name in in_use if errors}
    return LayerStatistics('Norm', records, measured)


def test_table():
    """Ln 2 is 0.69, ln 1.5 is 0.41."""
    runs = {
        'BN': run((), errors=False),
        'CBN': run(('mean', 'var'), errors=True),
        'MABN': run(('chi2', 'psi'), errors=True),
    }
    var = 'sigma^2 (MABN: chi^2)'
    heading = [
        'change of mu',
        f'change of {var}',
        'change of g',
        'change of Psi',
        'error of mu',
        f'error of {var}',
    ]
    both, error = '0.69 -> 0.41', '0.25 -> 0.12'
    assert table(runs) == [
        ['run', *heading],
        ['BN', '0.69', '0.69', '0.69', '0.69', '-', '-'],
        ['CBN', both, both, '0.69', '0.69', error, error],
        ['MABN', '-', both, '0.69', both, '-', error],
    ]
    assert table({'BN': runs['BN']})[0] == ['run', *heading[:1], 'change of sigma^2', *heading[2:4]]
