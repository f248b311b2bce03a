"""The benchmark of layers, at a size that takes no time."""

import re
from dataclasses import asdict

import pytest
import torch

from experiments.benchmarks import growth
from experiments.benchmarks.layers import Case, Setting, benchmark_case
from experiments.benchmarks.norms import LAYER_NORMS
from experiments.benchmarks.plots import plot, plot_growth
from experiments.benchmarks.tables import to_markdown

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def rows():
    setting = Setting(torch.device('cpu'), torch.bfloat16, torch.channels_last)
    results = benchmark_case(Case((2, 32, 6, 5), 3), setting, rounds=1, seconds=0.001)
    return [asdict(result) for result in results]


def test_every_norm_is_measured_beside_bn(rows):
    norms = {row['norm']: row for row in rows}
    assert set(norms) == set(LAYER_NORMS) - {'SyncBN'}
    bn = norms['BN']
    assert (bn['train_ratio'], bn['eval_ratio'], bn['folded_ratio'], bn['peak_ratio']) == (1, 1, 1, 1)
    assert norms['GN']['folded_ratio'] is None
    assert all(row['train_ms'] > 0 for row in rows)


def test_state_is_what_the_formulas_need(rows):
    state = {row['norm']: row['state_mb'] * 1e6 for row in rows}
    counter = 8
    channels, filter_size, k, m = 32, 32 * 9, 4, 16
    ring = 8 + 4 * k * k  # its counter, and the table of shares
    row = filter_size + channels * filter_size
    window = (k - 1) * 4 * (4 * channels + row)
    assert state['CBN'] == state['CBN, fraction 1/8'] == pytest.approx(counter + window + ring)
    assert state['Naive CBN'] == pytest.approx(counter + (k - 1) * 4 * 2 * channels + ring)
    assert state['CBN, exponential'] == pytest.approx(counter + 4 * (6 * channels + row))
    assert state['MABN'] == pytest.approx(counter + m * 4 * 2 * channels)
    assert state['BRN'] == pytest.approx(counter)


def test_tables_and_picture(rows, tmp_path):
    text = to_markdown(rows)
    assert text.count('3x3, (2, 32, 6, 5)') == 7  # a table for each of seven figures
    for row in rows:
        assert re.search(rf'\| {row["norm"]} +\| {row["train_ratio"]:.2f} +\|', text)
    plot(rows, tmp_path / 'times.png', 'machine')
    assert (tmp_path / 'times.png').read_bytes().startswith(b'\x89PNG')


def test_the_exponential_window_does_not_grow(tmp_path, monkeypatch):
    monkeypatch.setattr(growth, 'AXES', {'window_size': (2, 6), 'images': (1,)})
    points = growth.benchmark_growth(Setting(torch.device('cpu')), rounds=1, seconds=0.001)
    kept = {(point.norm, point.value): point.kept_weights for point in points if point.axis == 'window_size'}
    for window_size in (2, 6):
        assert kept['exponential', window_size] == pytest.approx(1, abs=0.05)
        assert kept['ring', window_size] == pytest.approx(window_size - 1, rel=0.05)
    plot_growth([asdict(point) for point in points], tmp_path / 'growth.png', 'machine')
    assert (tmp_path / 'growth.png').read_bytes().startswith(b'\x89PNG')
