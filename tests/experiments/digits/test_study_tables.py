"""Means, spreads and tables against numbers computed by hand."""

import csv
import io
import re

import pytest

from experiments.common.seeds import Cell, format_cell, summarize
from experiments.common.tables import text_table
from experiments.digits.comparisons import Comparison
from experiments.digits.plots import plot_comparison, plot_curves
from experiments.digits.tables import ACCURACY, TRAINING_LOSS, table, to_csv, to_markdown
from experiments.digits.trials import Trial


def result(accuracy, diverged=None, loss=1.0):
    accuracies = [0.1] * 11 + [accuracy]
    epochs = 12 if diverged is None else diverged - 1
    return {
        'accuracy': accuracies[:epochs],
        'training_loss': [loss] * epochs,
        'held_out_loss': [0.5] * epochs,
        'diverged': diverged,
        'seconds': 2.0,
        'torch': '2',
        'settings': {'method': 'some'},
    }


BN = (Trial('bn', 2, 0, 9), Trial('bn', 2, 1, 9), Trial('bn', 2, 2, 9))
GN = (Trial('gn', 2, 0, 9), Trial('gn', 2, 1, 9), Trial('gn', 2, 2, 9))
RESULTS = {
    BN[0]: result(0.80, loss=0.25),
    BN[1]: result(0.82, loss=0.5),
    BN[2]: result(0.87, loss=0.75),
    GN[0]: result(0.5),
    GN[1]: result(0.0, diverged=3),
    GN[2]: result(0.7),
}
COMPARISON = Comparison('batch_size', 'Batch sizes', 'batch size (images)', {'bn': {2: BN}, 'gn': {2: GN}})


def test_mean_and_sample_standard_deviation():
    cell = summarize([RESULTS[trial] for trial in BN], ACCURACY)
    assert cell.mean == pytest.approx(83.0)
    assert cell.spread == pytest.approx(13**0.5)  # (9 + 1 + 16) / 2
    assert (cell.diverged, cell.seeds) == (0, 3)
    loss = summarize([RESULTS[trial] for trial in BN], TRAINING_LOSS)
    assert (loss.mean, loss.spread) == (pytest.approx(0.5), pytest.approx(0.25))
    assert summarize([RESULTS[trial] for trial in BN], ACCURACY, epoch=0).mean == pytest.approx(10.0)


def test_divergence_is_counted_and_not_averaged():
    cell = summarize([RESULTS[trial] for trial in GN], ACCURACY)
    assert (cell.mean, cell.diverged, cell.seeds) == (pytest.approx(60.0), 1, 3)
    assert cell.spread == pytest.approx(200**0.5)
    # Before it diverged, a seed does not count either: the means of all epochs are of the same seeds.
    assert summarize([RESULTS[trial] for trial in GN], ACCURACY, epoch=0) == Cell(10.0, 0.0, 1, 3)
    assert summarize([result(0, 1), result(0, 2)], ACCURACY) == Cell(None, None, 2, 2)
    assert summarize([result(0.5)], ACCURACY) == Cell(50.0, None, 0, 1)


def test_how_cells_read():
    assert format_cell(Cell(87.26, 0.44, 0, 3), 1) == '87.3 ± 0.4'
    assert format_cell(Cell(87.26, None, 0, 1), 1) == '87.3'
    assert format_cell(Cell(0.5, 0.25, 1, 3), 2) == '0.50 ± 0.25 (1 of 3 diverged)'
    assert format_cell(Cell(None, None, 3, 3), 1) == 'diverged'


def test_tables():
    rows = table(COMPARISON, RESULTS, ACCURACY)
    assert rows == [
        ['batch size (images)', '2'],
        ['BN', '83.0 ± 3.6'],
        ['GN', '60.0 ± 14.1 (1 of 3 diverged)'],
    ]
    assert text_table(rows).splitlines()[1] == 'BN                   83.0 ± 3.6'
    text = to_markdown([COMPARISON], RESULTS)
    heading, line, bn, gn = (
        r'\| batch size \(images\) \| 2 +\|',
        r'\|-+\|-+\|',
        r'\| BN +\| 83\.0 ± 3\.6 +\|',
        r'\| GN +\| 60\.0',
    )
    assert re.search('\n'.join(('', heading, line, bn, gn)), text)
    assert re.search(r'\| BN +\| 0\.50 ± 0\.25 +\|', text)


def test_one_line_a_trial():
    rows = list(csv.DictReader(io.StringIO(to_csv(RESULTS))))
    assert len(rows) == 6
    assert (rows[1]['accuracy'], rows[1]['training_loss'], rows[1]['diverged']) == ('0.82', '0.5', '')
    assert (rows[4]['accuracy'], rows[4]['diverged']) == ('0.1', '3')


def test_pictures(tmp_path):
    for path in (tmp_path / 'a.png', tmp_path / 'b.png'):
        plot_comparison(COMPARISON, RESULTS, path) if path.stem == 'a' else plot_curves(
            COMPARISON, 2, RESULTS, path
        )
        assert path.read_bytes().startswith(b'\x89PNG')
        assert path.stat().st_size > 10_000
