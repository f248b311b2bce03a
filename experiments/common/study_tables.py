"""Tables of a study: a row for each method, a column for each value of what changes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .comparisons import Outcome
from .differences import Difference, format_difference, paired_difference
from .methods import METHODS, REFERENCE
from .rates import Result
from .seeds import Cell, Measure, format_cell, summarize
from .tables import csv_table, markdown_table

MARKS = {1: ' ▲', -1: ' ▼'}
LEGEND = (
    'Mean ± standard deviation over the seeds, each method at its own best learning rate. ▲ and ▼: above and '
    'below BN, bold: the best and what cannot be told from it. Both are said only where the 95% interval of '
    'the mean difference, paired over seeds (Student t), leaves 0 out; it is not corrected for their number. '
    "Running statistics have the layers' own momentum; those by batch one in proportion to the batch size."
)


def cells(outcome: Outcome, measure: Measure) -> dict[str, dict[int, Cell]]:
    """Summarize the seeds: for each method, for each value of what changes."""
    return {
        method: {value: summarize(results, measure) for value, results in row.items()}
        for method, row in outcome.compared.items()
    }


def table(outcome: Outcome, measure: Measure) -> list[list[str]]:
    """Return a table as rows of text, the first of which is the heading, with the marks of ``LEGEND``."""
    return _over_values(outcome, [_marked_column(outcome, value, measure) for value in outcome.values])


def difference_table(outcome: Outcome, measure: Measure) -> list[list[str]]:
    """Return how far each method is above BN, with the 95% interval, in rows of text."""
    return _over_values(outcome, [_difference_column(outcome, value, measure) for value in outcome.values])


def rate_table(outcome: Outcome) -> list[list[str]]:
    """Return the learning rates in rows of text."""
    return _over_values(outcome, [_rate_column(outcome, value) for value in outcome.values])


def measures_table(outcome: Outcome, value: int, measures: Sequence[Measure]) -> list[list[str]]:
    """Return what :func:`table` has at one value of what changes, a column for each measure."""
    columns = [_marked_column(outcome, value, measure) for measure in measures]
    heads = ['norm', *(measure.label for measure in measures), 'rate']
    return _rows(outcome, heads, [*columns, _rate_column(outcome, value)])


def differences_table(outcome: Outcome, value: int, measures: Sequence[Measure]) -> list[list[str]]:
    """Return what :func:`difference_table` has at one value of what changes, likewise."""
    columns = [_difference_column(outcome, value, measure) for measure in measures]
    return _rows(outcome, ['norm', *(measure.label for measure in measures)], columns)


def _over_values(outcome: Outcome, columns: Sequence[dict[str, str]]) -> list[list[str]]:
    return _rows(outcome, [outcome.comparison.axis, *map(str, outcome.values)], columns)


def _rows(outcome: Outcome, heads: list[str], columns: Sequence[dict[str, str]]) -> list[list[str]]:
    body = [[METHODS[method].label, *(column[method] for column in columns)] for method in outcome.compared]
    return [heads, *body]


def _difference_column(outcome: Outcome, value: int, measure: Measure) -> dict[str, str]:
    return {
        method: '-' if found is None else format_difference(found, measure.digits)
        for method, found in _from_reference(outcome, value, measure).items()
    }


def _rate_column(outcome: Outcome, value: int) -> dict[str, str]:
    return {method: f'{row[value][0]["settings"]["rate"]:g}' for method, row in outcome.compared.items()}


def _marked_column(outcome: Outcome, value: int, measure: Measure) -> dict[str, str]:
    results = {method: row[value] for method, row in outcome.compared.items()}
    of_methods = {method: summarize(seeds, measure) for method, seeds in results.items()}
    whole = {method: cell.mean for method, cell in of_methods.items() if not cell.diverged}
    best = (min if measure.less_is_better else max)(whole, key=whole.get, default=None)
    marked = {}
    for method, difference in _from_reference(outcome, value, measure).items():
        text = format_cell(of_methods[method], measure.digits)
        if best in whole and method in whole:
            behind = paired_difference(results[method], results[best], measure)
            if method == best or (behind is not None and not behind.sign):
                text = f'**{text}**'
        marked[method] = text + (MARKS.get(difference.sign, '') if difference else '')
    return marked


def _from_reference(outcome: Outcome, value: int, measure: Measure) -> dict[str, Difference | None]:
    """Return the difference of each method from BN, None where there is none."""
    results = {method: row[value] for method, row in outcome.compared.items()}
    reference = results.get(REFERENCE)
    return {
        method: paired_difference(seeds, reference, measure) if reference and method != REFERENCE else None
        for method, seeds in results.items()
    }


def measured(outcome: Outcome, measures: Sequence[Measure]) -> list[Measure]:
    """Return those of ``measures`` that the trials of a comparison have: not all have to have each."""
    results = [result for row in outcome.compared.values() for seeds in row.values() for result in seeds]
    return [measure for measure in measures if any(result.get(measure.key) for result in results)]


def to_markdown(outcomes: Iterable[Outcome], measures: Sequence[Measure], rate: str) -> str:
    """Return the tables of all comparisons in Markdown.

    Args:
        outcomes: What came out of them.
        measures: A table for each that there is.
        rate: What the learning rates are, with their unit.
    """
    parts = [LEGEND]
    for outcome in outcomes:
        parts.append(f'## {outcome.comparison.title}')
        own = measured(outcome, measures)
        if len(outcome.values) == 1:
            (value,) = outcome.values
            parts.append(f'{outcome.comparison.axis} {value}. {rate}: the last column.')
            parts += [markdown_table(measures_table(outcome, value, own)), 'The same beside BN:']
            parts.append(markdown_table(differences_table(outcome, value, own)))
            continue
        for measure in own:
            title = f'{measure.label[0].upper()}{measure.label[1:]}'
            parts += [f'{title}:', markdown_table(table(outcome, measure))]
            parts += [f'{title}, beside BN:', markdown_table(difference_table(outcome, measure))]
        parts += [f'{rate}:', markdown_table(rate_table(outcome))]
    return '\n\n'.join(parts) + '\n'


def to_csv(results: Sequence[Result], last: Sequence[str]) -> str:
    """Return one line a trial: its settings, what it reached last, and how long it took.

    Args:
        results: One a trial.
        last: Curves, of which the last value is given.
    """
    settings = results[0]['settings']
    other = ('diverged', 'seconds', 'torch')
    rows = [
        [
            *result['settings'].values(),
            *(result[name][-1] if result.get(name) else None for name in last),
            *(result[name] for name in other),
        ]
        for result in results
    ]
    return csv_table([[*settings, *last, *other], *rows])
