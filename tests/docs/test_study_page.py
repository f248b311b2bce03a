"""The tables of docs/study.md are those of the recorded trials, and nothing else."""

from pathlib import Path

import pytest

from experiments.common.comparisons import read_outcome
from experiments.common.records import restore
from experiments.common.study_tables import difference_table, rate_table, table
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
    page = tables_of('study.md')
    whole = outcomes['batch_size']
    expected = [table(whole, measure) for measure in (POPULATION, ACCURACY, TRAINING_LOSS)]
    expected += [difference_table(whole, POPULATION), rate_table(whole)]
    parts = outcomes['parts']
    expected += [table(parts, POPULATION), difference_table(parts, POPULATION)]
    of_digits = [rows for rows in page if rows[0][0] == whole.comparison.axis]
    assert sorted(of_digits) == sorted(expected)
