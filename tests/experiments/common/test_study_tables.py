"""Means, spreads, marks and tables against numbers computed by hand."""

import csv
import io
import re

import pytest

from experiments.common.comparisons import Comparison, Outcome, read_outcome
from experiments.common.seeds import Cell, format_cell, summarize
from experiments.common.study_plots import has_curves, plot_comparison, plot_curves, plot_rates
from experiments.common.study_tables import (
    difference_table,
    differences_table,
    measured,
    measures_table,
    rate_table,
    table,
    to_csv,
    to_markdown,
)
from experiments.common.tables import text_table
from experiments.digits.measures import ACCURACY, CURVES, MEASURES, RATE, SEARCH, TRAINING_LOSS
from experiments.digits.trials import Trial


def result(accuracy, diverged=None, loss=1.0, population=0.9, rate=0.003):
    accuracies = [0.1] * 11 + [accuracy]
    epochs = 12 if diverged is None else diverged - 1
    last = [] if diverged else [population]
    return {
        'accuracy': accuracies[:epochs],
        'training_loss': [loss] * epochs,
        'held_out_loss': [0.5] * epochs,
        'slow_accuracy': last,
        'population_accuracy': last,
        'diverged': diverged,
        'seconds': 2.0,
        'torch': '2',
        'settings': {'method': 'some', 'rate': rate},
    }


BN = [result(0.80, loss=0.25), result(0.82, loss=0.5), result(0.87, loss=0.75)]
GN = [result(0.5), result(0.0, diverged=3), result(0.7)]
# Above BN by 1, 2 and 3 points: 2 +- 4.303 / sqrt(3) at 2 degrees of freedom, which holds 0.
BRN = [result(0.81), result(0.84), result(0.90)]
# Above BN by 5, 5 and 6 points: 5.33 +- 4.303 * sqrt(1 / 3) / sqrt(3) = 1.43.
MABN = [result(0.85), result(0.87), result(0.93)]
METHODS = {'bn': BN, 'gn': GN, 'brn': BRN, 'mabn': MABN}
COMPARISON = Comparison(
    'batch_size',
    'Batch sizes',
    'batch size (images)',
    {method: {2: Trial(method, 2, 0, 9)} for method in METHODS},
    SEARCH,
    log_axis=True,
)
RATES = [result(0, population=0.3, rate=0.001), result(0, population=0.5), result(0, diverged=2, rate=0.01)]
OUTCOME = Outcome(
    COMPARISON,
    {method: {2: results} for method, results in METHODS.items()},
    {method: {2: RATES} for method in METHODS},
)


def test_mean_and_sample_standard_deviation():
    cell = summarize(BN, ACCURACY)
    assert cell.mean == pytest.approx(83.0)
    assert cell.spread == pytest.approx(13**0.5)  # (9 + 1 + 16) / 2
    assert (cell.diverged, cell.seeds) == (0, 3)
    loss = summarize(BN, TRAINING_LOSS)
    assert (loss.mean, loss.spread) == (pytest.approx(0.5), pytest.approx(0.25))
    assert summarize(BN, ACCURACY, epoch=0).mean == pytest.approx(10.0)


def test_divergence_is_counted_and_not_averaged():
    cell = summarize(GN, ACCURACY)
    assert (cell.mean, cell.diverged, cell.seeds) == (pytest.approx(60.0), 1, 3)
    assert cell.spread == pytest.approx(200**0.5)
    # Before it diverged, a seed does not count either: the means of all epochs are of the same seeds.
    assert summarize(GN, ACCURACY, epoch=0) == Cell(10.0, 0.0, 1, 3)
    assert summarize([result(0, 1), result(0, 2)], ACCURACY) == Cell(None, None, 2, 2)
    assert summarize([result(0.5)], ACCURACY) == Cell(50.0, None, 0, 1)


def test_how_cells_read():
    assert format_cell(Cell(87.26, 0.44, 0, 3), 1) == '87.3 ± 0.4'
    assert format_cell(Cell(87.26, None, 0, 1), 1) == '87.3'
    assert format_cell(Cell(0.5, 0.25, 1, 3), 2) == '0.50 ± 0.25 (1 of 3 diverged)'
    assert format_cell(Cell(None, None, 3, 3), 1) == 'diverged'


def test_what_stands_in_the_table():
    rows = table(OUTCOME, ACCURACY)
    assert rows == [
        ['batch size (images)', '2'],
        ['BN', '83.0 ± 3.6'],
        ['GN', '60.0 ± 14.1 (1 of 3 diverged)'],
        ['BRN', '85.0 ± 4.6'],
        ['MABN', '**88.3 ± 4.2** ▲'],
    ]
    assert text_table(rows).splitlines()[1] == 'BN                   83.0 ± 3.6'


def test_marks():
    """BRN is below MABN by 4, 3 and 3 points; without MABN it is the best, and BN cannot be told from it."""
    some = Outcome(COMPARISON, {name: {2: METHODS[name]} for name in ('bn', 'brn')}, {})
    assert [row[1] for row in table(some, ACCURACY)[1:]] == ['**83.0 ± 3.6**', '**85.0 ± 4.6**']
    lower = Outcome(COMPARISON, {'bn': {2: MABN}, 'mabn': {2: BN}}, {})
    assert [row[1] for row in table(lower, ACCURACY)[1:]] == ['**88.3 ± 4.2**', '83.0 ± 3.6 ▼']
    without = Outcome(COMPARISON, {'brn': {2: BRN}}, {})  # BN did not take part
    assert table(without, ACCURACY)[1][1] == '**85.0 ± 4.6**'


def test_the_lowest_loss_is_the_best():
    rows = dict(table(OUTCOME, TRAINING_LOSS)[1:])
    assert rows['BN'] == '**0.50 ± 0.25**'
    assert rows['MABN'] == '**1.00 ± 0.00**'  # 0.5 above, of which three seeds cannot be sure


def test_differences_and_rates():
    rows = dict(difference_table(OUTCOME, ACCURACY)[1:])
    assert rows == {
        'BN': '-',
        'GN': '-23.5 (-106.1 to +59.1)',  # of two seeds: 6.5 * 12.706 around -23.5
        'BRN': '+2.0 (-0.5 to +4.5)',
        'MABN': '+5.3 (+3.9 to +6.8)',
    }
    assert rate_table(OUTCOME)[1] == ['BN', '0.003']


def test_one_column_is_laid_out_by_measures():
    assert measures_table(OUTCOME, 2, (ACCURACY, TRAINING_LOSS))[:3] == [
        ['norm', 'accuracy, running statistics (%)', 'training loss (nats)', 'rate'],
        ['BN', '83.0 ± 3.6', '**0.50 ± 0.25**', '0.003'],
        ['GN', '60.0 ± 14.1 (1 of 3 diverged)', '1.00 ± 0.00 (1 of 3 diverged)', '0.003'],
    ]
    assert differences_table(OUTCOME, 2, (ACCURACY, TRAINING_LOSS))[3] == [
        'BRN',
        '+2.0 (-0.5 to +4.5)',
        '+0.50 (-0.12 to +1.12)',
    ]
    text = to_markdown([OUTCOME], (ACCURACY, TRAINING_LOSS), RATE)
    assert re.search(r'\| BN +\| 83\.0 ± 3\.6 +\| \*\*0\.50 ± 0\.25\*\* +\| 0\.003 \|', text)
    assert 'batch size (images) 2. Learning rate' in text


def test_markdown():
    both = [{method: {2: row[2], 4: row[2]} for method, row in of.items()} for of in (OUTCOME.compared, {})]
    text = to_markdown([Outcome(COMPARISON, *both)], MEASURES, RATE)
    heading, line, bn, gn = (
        r'\| batch size \(images\) \| 2 +\| 4 +\|',
        r'\|-+\|-+\|-+\|',
        r'\| BN +\| 83\.0 ± 3\.6 +\| 83\.0 ± 3\.6 +\|',
        r'\| GN +\| 60\.0',
    )
    assert re.search('\n'.join(('', heading, line, bn, gn)), text)
    assert re.search(r'\| BN +\| \*\*0\.50 ± 0\.25\*\* +\|', text)


def test_records_have_no_curves():
    assert has_curves(OUTCOME, 2, ACCURACY, 12)  # GN's second seed diverged before
    assert not has_curves(OUTCOME, 2, ACCURACY, 13)


def test_measures_that_no_trial_has_are_left_out():
    without = [{**trial, 'accuracy': []} for trial in BN] + [result(0.5, diverged=1)]
    outcome = Outcome(COMPARISON, {'bn': {2: without}}, {})
    assert measured(outcome, MEASURES) == [measure for measure in MEASURES if measure.key != 'accuracy']
    assert measured(OUTCOME, MEASURES) == list(MEASURES)
    (line, *_) = csv.DictReader(io.StringIO(to_csv([{**BN[0], 'settings': {}, 'gone': []}], ['gone'])))
    assert line['gone'] == ''


def test_only_whole_columns_are_reported():
    settings = {method: {size: Trial(method, size, 0, 9) for size in (2, 4)} for method in ('bn', 'gn')}
    comparison = Comparison('batch_size', 'Batch sizes', 'batch size (images)', settings, SEARCH)
    results = {}

    def run(setting, split):
        for trial in SEARCH.trials_of(setting, 2, results.get):
            if trial.split == split:
                population = 0.5 if trial.rate == 0.003 else 0.4
                results[trial] = result(0.4, population=population, rate=trial.rate)

    for setting in (settings['bn'][2], settings['bn'][4], settings['gn'][2]):
        assert read_outcome(comparison, 2, results.get) is None
        run(setting, 'validation')
        run(setting, 'test')
    run(settings['gn'][4], 'validation')
    outcome = read_outcome(comparison, 2, results.get)
    assert outcome.values == [2]
    assert [len(outcome.compared[method][2]) for method in ('bn', 'gn')] == [2, 2]
    assert [r['settings']['rate'] for r in outcome.tuning['gn'][2]] == [0.001, 0.003, 0.01, 0.03]
    run(settings['gn'][4], 'test')
    assert read_outcome(comparison, 2, results.get).values == [2, 4]


def test_one_line_a_trial():
    rows = list(csv.DictReader(io.StringIO(to_csv([*BN, *GN], CURVES))))
    assert len(rows) == 6
    assert (rows[1]['accuracy'], rows[1]['training_loss'], rows[1]['diverged']) == ('0.82', '0.5', '')
    assert (rows[1]['population_accuracy'], rows[4]['population_accuracy']) == ('0.9', '')
    assert (rows[4]['accuracy'], rows[4]['diverged']) == ('0.1', '3')


@pytest.mark.parametrize(
    'plot',
    [
        lambda path: plot_comparison(OUTCOME, MEASURES, path),
        lambda path: plot_comparison(OUTCOME, MEASURES[:3], path),
        lambda path: plot_rates(OUTCOME, RATE, path),
        lambda path: plot_curves(OUTCOME, 2, (ACCURACY, TRAINING_LOSS), path),
        lambda path: plot_curves(OUTCOME, 2, [TRAINING_LOSS], path),
    ],
)
def test_pictures(tmp_path, plot):
    path = tmp_path / 'a.png'
    plot(path)
    assert path.read_bytes().startswith(b'\x89PNG')
    assert path.stat().st_size > 10_000
