"""The tables of docs/study.md are those of the recorded trials and runs, and nothing else."""

import csv
from functools import partial
from pathlib import Path

import pytest

from experiments.common.comparisons import read_outcome
from experiments.common.records import restore
from experiments.common.study_tables import (
    difference_table,
    differences_table,
    measured,
    measures_table,
    rate_table,
    table,
)
from experiments.digits.comparisons import FULL, make_comparisons
from experiments.digits.measures import ACCURACY, CURVES, POPULATION, TRAINING_LOSS
from experiments.digits.runner import Results
from experiments.digits.trials import Trial

DOCS = Path(__file__).parents[2] / 'docs'


def tables_of(page: str) -> list[list[list[str]]]:
    """Return all tables of a page as rows of cells."""
    tables, before = [], False
    for line in (DOCS / page).read_text().splitlines():
        if line.startswith('|'):
            row = [cell.strip() for cell in line.strip('|').split('|')]
            tables[-1].append(row) if before else tables.append([row])
        before = line.startswith('|')
    return [[head, *body] for head, _, *body in tables]


@pytest.fixture(scope='module')
def outcomes(tmp_path_factory):
    folder = tmp_path_factory.mktemp('trials')
    restore(DOCS / 'records' / 'study_trials.csv', Trial, folder, CURVES)
    results = Results(folder)
    found = [read_outcome(comparison, FULL.seeds, results.read) for comparison in make_comparisons(FULL)]
    return {outcome.comparison.name: outcome for outcome in found if outcome}


def test_each_table_of_the_digits_is_that_of_the_records(outcomes):
    expected = {}
    for name in ('batch_size', 'parts', 'iterations', 'workers'):
        outcome = outcomes[name]
        of_axis = expected.setdefault(outcome.comparison.axis, [])
        of_axis += [table(outcome, POPULATION), difference_table(outcome, POPULATION)]
        if name in ('batch_size', 'workers'):  # the page has the others in short
            of_axis += [table(outcome, measure) for measure in (ACCURACY, TRAINING_LOSS)]
            of_axis.append(rate_table(outcome))
    page = tables_of('study.md')
    for axis, tables in expected.items():
        assert sorted(rows for rows in page if rows[0][0] == axis) == sorted(tables)


@pytest.fixture(scope='module')
def detectors(tmp_path_factory):
    pytest.importorskip('mmdet')
    from experiments.detection.comparisons import make_comparisons
    from experiments.detection.measures import MEASURES
    from experiments.detection.runs import read_result, result_folder
    from experiments.detection.trials import DetectionRun

    out = tmp_path_factory.mktemp('runs')
    records = DOCS / 'records' / 'detection_runs.csv'
    restore(records, DetectionRun, result_folder(out), [measure.key for measure in MEASURES])
    methods, images = {}, {}
    for line in csv.DictReader(records.open()):
        methods.setdefault((line['regime'], int(line['batch_size'])), set()).add(line['method'])
        images[line['regime']] = int(line['train_images'])
    outcomes = {}
    for (regime, size), names in methods.items():
        (comparison,) = make_comparisons([regime], names, [size], photographs=images[regime])
        outcomes[regime, size] = read_outcome(comparison, 3, partial(read_result, out))
    return outcomes


def test_the_tables_of_the_detectors_are_those_of_the_records(detectors):
    from experiments.detection.measures import BOX, MASK, POPULATION_BOX, POPULATION_MASK
    from experiments.detection.measures import TRAINING_LOSS as LOSS

    expected = []
    for (_, size), outcome in detectors.items():
        measures = measured(outcome, (POPULATION_BOX, POPULATION_MASK, BOX, MASK))
        expected += [
            measures_table(outcome, size, (*measures, LOSS)),
            differences_table(outcome, size, measures),
        ]
    for rows in expected:
        rows[0] = [head.removesuffix(' statistics') for head in rows[0]]  # the page spares the width
    of_detectors = [rows for rows in tables_of('study.md') if rows[0][:2] == ['norm', 'box AP, population']]
    assert sorted(of_detectors) == sorted(expected)


def test_the_table_of_the_readme_is_a_part_of_them(outcomes, detectors):
    from experiments.detection.measures import BOX, MASK

    names = {
        'BN behind `CenConv2d`': 'BN, centred',
        'GN behind `ConvWS`': 'GN, WS',
        'SyncBN, over both processes': 'SyncBN',
        'CBN, as published': 'CBN',
        'AvgBN behind `CenConv2d`': 'AvgBN, centred',
        'MABN (behind `CenConv2d`)': 'MABN',
    }
    heading, *digits = table(outcomes['batch_size'], POPULATION)
    columns = [heading.index(size) for size in ('1', '2', '4')]
    accuracies = {row[0]: [row[column] for column in columns] for row in digits}
    frozen, scratch = (
        {row[0]: row[1:3] for row in measures_table(detectors[regime, 1], 1, (BOX, MASK))[1:]}
        for regime in ('pretrained', 'scratch')
    )
    (quoted,) = (rows for rows in tables_of('../README.md') if 'digits, 1 image' in rows[0])
    for name, *cells in quoted[1:]:
        label = names.get(name, name)
        aps = frozen.get(label, ['-'] * 2) + scratch.get(label, ['-'] * 2)
        assert cells == accuracies.get(label, ['-'] * 3) + aps, name
