"""The benchmark of layers, at a size that takes no time."""

import re
from dataclasses import asdict

import pytest
import torch

from experiments.benchmarks.layers import Case, Setting, benchmark_case
from experiments.benchmarks.norms import LAYER_NORMS
from experiments.benchmarks.plots import plot
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
    taken = 8
    window = (k - 1) * 4 * (4 * channels + filter_size + channels * filter_size)
    assert state['CBN'] == state['CBN, fraction 1/8'] == pytest.approx(counter + window + taken)
    assert state['Naive CBN'] == pytest.approx(counter + (k - 1) * 4 * 2 * channels + taken)
    assert state['MABN'] == pytest.approx(counter + m * 4 * 2 * channels)
    assert state['BRN'] == pytest.approx(counter)


def test_tables_and_picture(rows, tmp_path):
    text = to_markdown(rows)
    assert text.count('3x3, (2, 32, 6, 5)') == 6  # a table for each of six figures
    for row in rows:
        assert re.search(rf'\| {row["norm"]} +\| {row["train_ratio"]:.2f} +\|', text)
    plot(rows, tmp_path / 'times.png', 'machine')
    assert (tmp_path / 'times.png').read_bytes().startswith(b'\x89PNG')
