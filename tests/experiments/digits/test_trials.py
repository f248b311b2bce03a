"""One trial: its schedule, its repeatability, and what it records."""

import json
import math
from dataclasses import replace
from functools import partial
from itertools import combinations

import pytest
import torch

from experiments.digits import evaluation, trials
from experiments.digits.norms import COMPETITORS
from experiments.digits.trials import learning_rate, run_trial

Trial = partial(trials.Trial, held_out=50)
TINY = Trial('cbn', batch_size=4, seed=0, images=10, window_size=3, burn_in=1)


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def without_seconds(result):
    return {name: value for name, value in result.items() if name != 'seconds'}


def test_learning_rate_follows_the_linear_rule_and_the_schedule():
    trial = Trial('bn', batch_size=4, seed=0, images=40)  # 10 iterations an epoch, 5 of warm-up
    rates = [learning_rate(trial, iteration) for iteration in range(120)]
    assert rates[:6] == pytest.approx([0.0024, 0.0048, 0.0072, 0.0096, 0.012, 0.012])
    assert rates[5:80] == pytest.approx([0.012] * 75)
    assert rates[80:110] == pytest.approx([0.0012] * 30)
    assert rates[110:] == pytest.approx([0.00012] * 10)
    larger = Trial('bn', batch_size=32, seed=0, images=320)
    assert learning_rate(larger, 10) == pytest.approx(0.096)
    assert learning_rate(replace(larger, rate=0.01), 10) == pytest.approx(0.32)
    workers = Trial('bn', batch_size=4, seed=0, images=320, workers=8)
    assert workers.iterations == 10
    assert learning_rate(workers, 10) == pytest.approx(0.096)


@pytest.mark.parametrize('method', COMPETITORS)
def test_a_trial_repeats_bit_by_bit(method):
    windowed = {'window_size': 3, 'burn_in': 1} if COMPETITORS[method].window_size else {}
    trial = Trial(method, batch_size=4, seed=1, images=10, **windowed)
    first = run_trial(trial)
    torch.manual_seed(7)
    assert without_seconds(run_trial(trial)) == without_seconds(first)
    assert len(first['training_loss']) == len(first['accuracy']) == len(first['held_out_loss']) == 12
    assert len(first['slow_accuracy']) == len(first['population_accuracy']) == 1
    assert first['diverged'] is None


def test_what_a_trial_is_set_to_changes_what_comes_out():
    losses = {
        run_trial(trial)['training_loss'][-1]
        for trial in (
            TINY,
            Trial('cbn', 4, 1, 10, 3, 1),
            Trial('cbn', 5, 0, 10, 3, 1),
            Trial('cbn', 4, 0, 11, 3, 1),
            Trial('cbn', 4, 0, 10, 2, 1),
            Trial('cbn', 4, 0, 10, 3, 2),
            Trial('naive-cbn', 4, 0, 10, 3, 1),
            Trial('cbn-window-gradient', 4, 0, 10, 3, 1),
            Trial('cbn', 2, 0, 10, 3, 1, workers=2),
            replace(TINY, rate=0.001),
        )
    }
    assert len(losses) == 10


def test_the_split_changes_what_is_evaluated_and_not_what_is_trained():
    test, validation = run_trial(TINY), run_trial(replace(TINY, split='validation'))
    assert test['training_loss'] == validation['training_loss']
    assert not set(test['held_out_loss']) & set(validation['held_out_loss'])


def test_three_ways_to_evaluate_one_training(monkeypatch):
    """The same weights with three running means. Accuracies of so short a training may be equal by chance."""
    gn = run_trial(Trial('gn', batch_size=2, seed=0, images=10))
    assert gn['accuracy'][-1] == gn['slow_accuracy'][-1] == gn['population_accuracy'][-1]

    evaluated = []

    def evaluate(network, held_out):
        weights, means = (
            torch.cat([value.flatten() for name, value in network.state_dict().items() if kind in name])
            for kind in ('weight', 'running_mean')
        )
        evaluated.append((weights, means))
        return evaluation.evaluate(network, held_out)

    monkeypatch.setattr(trials, 'evaluate', evaluate)
    run_trial(Trial('bn', batch_size=2, seed=0, images=20, rate=0.01))
    (weights, means), *others = evaluated[-3:]
    for other_weights, _ in others:
        torch.testing.assert_close(other_weights, weights, rtol=0, atol=0)
    for first, second in combinations([means, *(other for _, other in others)], 2):
        assert (first - second).abs().max() > 1e-3


def test_sync_bn_is_bn_over_the_joint_batch_of_the_workers():
    sync = run_trial(Trial('sync-bn', 2, 0, 16, workers=4))
    assert sync['training_loss'] == run_trial(Trial('bn', 8, 0, 16))['training_loss']
    assert sync['training_loss'] != run_trial(Trial('bn', 2, 0, 16, workers=4))['training_loss']


def test_workers_that_find_no_images_sit_out():
    """Ten images are three iterations of four workers, of whom two have none in the last one."""
    result = run_trial(Trial('bn', 1, 0, 10, workers=4))
    assert result['diverged'] is None
    assert all(math.isfinite(loss) for loss in result['training_loss'])


def test_burn_in_is_bn():
    """Up to the end of its burn-in, CBN computes what BN does."""
    cbn = run_trial(Trial('cbn', 4, 0, 10, 3, 2))['training_loss']
    bn = run_trial(Trial('bn', 4, 0, 10))['training_loss']
    assert cbn[:2] == pytest.approx(bn[:2], rel=1e-4)
    assert abs(cbn[3] - bn[3]) > 1e-3


def test_settings_state_the_hyper_parameters():
    values = TINY.settings
    assert values['learning_rate'] == pytest.approx(0.012)
    assert 'window_size=3' in values['norm']
    assert 'burn_in=3' in values['norm']  # iterations, of 3 an epoch
    assert json.loads(json.dumps(values)) == values


def test_divergence_is_recorded_and_ends_the_trial():
    result = run_trial(replace(TINY, rate=1e30))
    assert 1 <= result['diverged'] < 12
    assert len(result['training_loss']) == len(result['accuracy']) == result['diverged'] - 1
    assert result['slow_accuracy'] == result['population_accuracy'] == []
    json.dumps(result, allow_nan=False)


@pytest.mark.slow
def test_the_task_is_learned():
    result = run_trial(Trial('mabn', batch_size=8, seed=0, images=300))
    assert result['training_loss'][0] == pytest.approx(math.log(10), abs=0.4)
    assert result['accuracy'][-1] > 0.3
