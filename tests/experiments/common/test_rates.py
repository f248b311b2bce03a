"""The choice of the learning rate, beside what it is chosen from."""

from dataclasses import replace

import pytest

from experiments.digits.measures import SEARCH, TRAINING_LOSS
from experiments.digits.trials import Trial

SETTING = Trial('cbn', 2, 0, 600, 8, 3)


def study(accuracies):
    """Run what is asked for until nothing more is; accuracies are by the rate, None where it diverges."""
    results = {}
    while missing := [trial for trial in SEARCH.trials_of(SETTING, 3, results.get) if trial not in results]:
        for trial in missing:
            accuracy = accuracies(trial.rate) if trial.split == 'validation' else 0.5
            reached = [] if accuracy is None else [accuracy]
            results[trial] = {
                'diverged': None if reached else 1,
                'population_accuracy': reached,
                'accuracy': [1 - value for value in reached],  # which does not choose
            }
    return results


def tried_and_chosen(accuracies):
    results = study(accuracies)
    (rate,) = {trial.rate for trial in SEARCH.compared_trials(SETTING, 3, results.get)}
    return [trial.rate for trial in SEARCH.tuning_trials(SETTING, results.get)], rate


@pytest.mark.parametrize(
    ('best', 'tried'),
    [
        (0.003, [0.001, 0.003, 0.01, 0.03]),
        (0.01, [0.001, 0.003, 0.01, 0.03]),
        (0.03, [0.001, 0.003, 0.01, 0.03, 0.1]),
        (0.1, [0.001, 0.003, 0.01, 0.03, 0.1, 0.3]),
        (0.3, [0.001, 0.003, 0.01, 0.03, 0.1, 0.3]),
        (0.001, [0.0003, 0.001, 0.003, 0.01, 0.03]),
        (0.0001, [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03]),
    ],
)
def test_the_best_rate_has_its_neighbours_beside_it(best, tried):
    assert tried_and_chosen(lambda rate: 1 / max(rate / best, best / rate)) == (tried, best)


def test_rates_are_a_factor_of_three_apart():
    assert all(2.9 < high / low < 3.5 for low, high in zip(SEARCH.rates, SEARCH.rates[1:], strict=False))


def test_the_lowest_loss_is_the_best():
    search = replace(SEARCH, chosen_by=TRAINING_LOSS)
    tried = search.tuning_trials(SETTING, {}.get)
    losses = dict(zip(tried, (0.5, 0.25, 0.75, None), strict=True))
    results = {
        trial: {'diverged': 3 if loss is None else None, 'training_loss': [9.0] if loss is None else [loss]}
        for trial, loss in losses.items()
    }
    assert {trial.rate for trial in search.compared_trials(SETTING, 2, results.get)} == {0.003}


def test_what_diverges_is_not_chosen():
    assert tried_and_chosen(lambda rate: rate if rate < 0.002 else None)[1] == 0.001
    assert tried_and_chosen(lambda rate: None)[1] == min(SEARCH.rates)  # all that is left to say


def test_of_equal_rates_the_smallest():
    assert tried_and_chosen(lambda rate: 0.5)[1] == min(SEARCH.rates)


def test_choice_and_comparison_share_neither_split_nor_seed():
    results = study(lambda rate: 0.5)
    tuning = SEARCH.tuning_trials(SETTING, results.get)
    compared = SEARCH.compared_trials(SETTING, 3, results.get)
    assert [(trial.split, trial.seed) for trial in compared] == [('test', 0), ('test', 1), ('test', 2)]
    assert {trial.split for trial in tuning} == {'validation'}
    (seed,) = {trial.seed for trial in tuning}
    assert seed not in range(100)
    assert {(trial.method, trial.window_size, trial.burn_in) for trial in results} == {('cbn', 8, 3)}


def test_nothing_is_compared_before_the_rate_is_chosen():
    results = study(lambda rate: 0.5)
    del results[SEARCH.tuning_trials(SETTING, results.get)[1]]
    assert SEARCH.compared_trials(SETTING, 3, results.get) is None
    assert {trial.split for trial in SEARCH.trials_of(SETTING, 3, results.get)} == {'validation'}
