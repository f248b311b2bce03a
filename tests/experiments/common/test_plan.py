"""What is left to run, and for how long."""

from dataclasses import replace

import pytest

from experiments.common.plan import count_expected, known_trials, plan
from experiments.digits.comparisons import FULL, QUICK, make_comparisons
from experiments.digits.speed import trial_seconds
from experiments.digits.trials import LEARNING_RATE, Trial

COMPARISONS = make_comparisons(QUICK, ('bn', 'gn', 'cbn'))


def finish(trial, results):
    """A rate in the middle is the best."""
    results[trial] = {'diverged': None, 'population_accuracy': [float(trial.rate == 0.003)]}


def test_a_column_after_the_other():
    results, order = {}, []
    while missing := [trial for trial in known_trials(COMPARISONS, 2, results.get) if trial not in results]:
        order.append(missing[0])
        finish(missing[0], results)
    assert order == list(known_trials(COMPARISONS, 2, results.get))
    assert len(set(order)) == len(order) == count_expected(COMPARISONS, 2, results.get)

    columns = [settings for comparison in COMPARISONS for _, settings in comparison.columns()]
    settings = [replace(trial, rate=LEARNING_RATE, split='test', seed=0) for trial in order]
    places = [next(n for n, column in enumerate(columns) if setting in column) for setting in settings]
    assert places == sorted(places)
    assert [trial.split for trial in order[:6]] == ['validation'] * 4 + ['test'] * 2


def test_the_table_of_the_plan():
    """Four rates and two seeds a setting: BN, GN and CBN at 2 images; BN, which CBN is, and GN at 32."""
    heading, *rows = plan(COMPARISONS, 2, {}.get, 2, seconds=lambda trial: 3600.0)
    assert rows[0] == ['batch_size', '2', '3', '18', str(18 * 12 * 150), '9.00', '9.00']
    assert rows[1] == ['batch_size', '32', '2', '12', str(12 * 12 * 10), '6.00', '15.00']
    assert rows[2] == ['workers', '2', '3', '18', str(18 * 12 * 38), '9.00', '24.00']
    assert rows[3][:4] == ['iterations', '2', '0', '0']  # the same trials as those at equal images
    assert len(heading) == len(rows[0])


def test_what_is_finished_is_not_planned():
    results = {}
    finish(next(known_trials(COMPARISONS, 2, results.get)), results)
    *_, last = plan(COMPARISONS[:1], 2, results.get, 1, seconds=lambda trial: 3600.0)
    assert last[-1] == '29.00'
    assert count_expected(COMPARISONS[:1], 2, results.get) == 30


def test_the_size_of_the_full_study():
    """Twelve methods in one process, three with the paper's window and three with a growing one.

    The former are BN at batch size 32. Batch size 2 is shared, and so are k = 1, 8 and 32.
    """
    batch_sizes, parts, workers, iterations = 4 * 12 + 9, 6, 3 * 13, 3 * 12 + 9
    spans, window_sizes, burn_ins = 4 * 3, 6 * 3, 4 * 2
    settings = batch_sizes + parts + workers + iterations + spans + window_sizes + burn_ins
    assert count_expected(make_comparisons(FULL), 5, {}.get) == (4 + 5) * settings


def test_estimates_come_from_steps():
    short, long = (trial_seconds(Trial('bn', 2, 0, images, held_out=50)) for images in (20, 2000))
    assert 0 < short < long
    assert trial_seconds(Trial('bn', 2, 3, 2000, rate=0.01, held_out=50)) == pytest.approx(
        long
    )  # measured once
