"""What the study compares."""

from experiments.digits.comparisons import FULL, NAMES, PARTS, QUICK, make_comparisons
from experiments.digits.norms import COMPETITORS
from experiments.digits.trials import Trial


def by_name(scale=FULL, **given):
    return {comparison.name: comparison.settings for comparison in make_comparisons(scale, **given)}


def test_batch_sizes_at_equal_numbers_of_images():
    by_batch = by_name()['batch_size']
    assert set(by_batch) == set(COMPETITORS) - {'sync-bn', *PARTS}
    assert all(list(row) == [1, 2, 4, 8, 32] for row in by_batch.values())
    assert by_batch['cbn'][4] == Trial('cbn', 4, 0, 600, 4, 3)
    assert by_batch['mabn'][1] == Trial('mabn', 1, 0, 600)
    assert by_batch['avgbn'][2] == Trial('avgbn', 2, 0, 600, 32)  # without burn-in
    for method in ('naive-cbn', 'cbn', 'cbn-window-gradient'):
        assert by_batch[method][32] == by_batch['bn'][32]  # k = 1
    assert {setting.images for row in by_batch.values() for setting in row.values()} == {600}


def test_batch_sizes_at_equal_numbers_of_iterations():
    comparisons = by_name()
    by_batch = comparisons['iterations']
    assert {setting.iterations for row in by_batch.values() for setting in row.values()} == {300}
    assert by_batch['gn'][32].images == 300 * 32
    assert by_batch['cbn'][2] == comparisons['batch_size']['cbn'][2]  # the same trials


def test_workers():
    by_batch = by_name()['workers']
    assert set(by_batch) == set(COMPETITORS) - set(PARTS)
    assert all(list(row) == [1, 2, 4] for row in by_batch.values())
    # k is that of the images of one worker.
    assert by_batch['cbn'][4] == Trial('cbn', 4, 0, 2400, 4, 3, workers=8)
    assert {setting.iterations for row in by_batch.values() for setting in row.values()} == {75}


def test_window_sizes_and_burn_in():
    comparisons = by_name()
    by_window, by_burn_in = comparisons['window_size'], comparisons['burn_in']
    bn = Trial('bn', 2, 0, 600)
    assert list(by_window['naive-cbn']) == list(by_window['cbn']) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert by_window['naive-cbn'][1] == by_window['cbn'][1] == bn
    assert by_window['naive-cbn'][5] == Trial('naive-cbn', 2, 0, 600, 5, 3)
    assert by_burn_in['cbn'][6] == Trial('cbn', 2, 0, 600, 8, 6)
    assert by_burn_in['cbn'][3] == by_window['cbn'][8]
    assert 'naive-cbn' not in by_burn_in
    assert set(by_window['bn'].values()) == set(by_burn_in['bn'].values()) == {bn}  # what they are beside


def test_parts_of_methods():
    parts = by_name()['parts']
    assert set(parts) == {'bn', *PARTS}
    assert {tuple(row) for row in parts.values()} == {(2,)}


def test_spans():
    by_span = by_name()['span']
    assert set(by_span) == {'bn', 'avgbn', 'avgbn-cen', 'cbn-growing-window-gradient'}
    assert list(by_span['avgbn']) == [1, 4, 8, 16, 32, 64]
    assert by_span['avgbn'][64] == Trial('avgbn', 2, 0, 600, 64)
    assert by_span['avgbn-cen'][1] == Trial('bn-cen', 2, 0, 600)


def test_some_comparisons():
    assert tuple(by_name()) == NAMES
    assert list(by_name(names=['span', 'workers'])) == ['workers', 'span']


def test_some_methods():
    found = by_name(QUICK, methods=['cbn', 'bn'])
    assert {name: list(rows) for name, rows in found.items()} == dict.fromkeys(found, ['bn', 'cbn'])
    assert 'window_size' not in by_name(methods=['bn', 'gn'])


def test_each_setting_of_a_column_once():
    columns = dict(make_comparisons(FULL)[0].columns())
    assert len(columns[2]) == 12
    assert [setting.method for setting in columns[32]] == [
        *('bn', 'bn-cen', 'gn', 'gn-ws', 'brn', 'cbn-growing-window-gradient', 'avgbn', 'avgbn-cen', 'mabn')
    ]
