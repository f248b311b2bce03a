"""Which trials the study consists of."""

from experiments.digits.comparisons import FULL, QUICK, all_trials, make_comparisons
from experiments.digits.norms import COMPETITORS
from experiments.digits.trials import Trial


def test_batch_sizes():
    by_batch = make_comparisons(FULL)[0].trials
    assert set(by_batch) == set(COMPETITORS)
    assert all(list(row) == [1, 2, 4, 8, 32] for row in by_batch.values())
    assert by_batch['cbn'][4] == tuple(Trial('cbn', 4, seed, 600, 4, 3) for seed in (0, 1, 2))
    assert by_batch['mabn'][1] == tuple(Trial('mabn', 1, seed, 600) for seed in (0, 1, 2))
    assert by_batch['cbn'][32] == by_batch['bn'][32]  # k = 1


def test_window_sizes_and_burn_in():
    _, by_window, by_burn_in = (comparison.trials for comparison in make_comparisons(FULL))
    assert list(by_window['naive-cbn']) == list(by_window['cbn']) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert by_window['naive-cbn'][1] == by_window['cbn'][1] == tuple(Trial('bn', 2, s, 600) for s in range(3))
    assert by_window['naive-cbn'][5][1] == Trial('naive-cbn', 2, 1, 600, 5, 3)
    assert by_burn_in['cbn'][6][2] == Trial('cbn', 2, 2, 600, 8, 6)
    assert by_burn_in['cbn'][3] == by_window['cbn'][8]


def test_each_trial_runs_once():
    for scale in (FULL, QUICK):
        trials = all_trials(make_comparisons(scale))
        assert len({trial.name for trial in trials}) == len(trials)
        per_seed = [len([trial for trial in trials if trial.seed == seed]) for seed in range(scale.seeds)]
        assert len(set(per_seed)) == 1
    assert len(all_trials(make_comparisons(FULL))) == 3 * (7 * 4 + 4 + 3 * 6 + 2 * 4)
