"""Compare the normalization layers on a small task: accuracy over batch size, window size and burn-in.

Needs no download and no GPU. Where it was stopped, the same command goes on: results of finished trials are
in DIR/trials. The tables are filled column by column, those at the top first. At the end, and with --report
at any time, DIR holds tables.md, trials.csv and the pictures, of the columns that are whole.
"""

from __future__ import annotations

import os
import signal
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from mmdet_cbn.whole_file import whole_file

from ..common.argument_types import positive_integer
from ..common.comparisons import Comparison, read_outcome
from ..common.plan import count_expected, known_trials, plan
from ..common.records import restore
from ..common.results import StudyError
from ..common.study_plots import has_curves, plot_comparison, plot_curves, plot_rates
from ..common.study_tables import LEGEND, table, to_csv, to_markdown
from ..common.tables import text_table
from .comparisons import FULL, NAMES, QUICK, SMALL_BATCH, Scale, make_comparisons
from .measures import ACCURACY, CURVES, MEASURES, RATE, TRAINING_LOSS
from .norms import COMPETITORS
from .runner import Results, run_trials
from .speed import trial_seconds
from .trials import EPOCHS, Trial


def parse_args() -> Namespace:
    """Read the command line."""
    parser = ArgumentParser(
        'python -m experiments.digits',
        description=__doc__,
        formatter_class=RawDescriptionHelpFormatter,
        epilog='example:\n  python -m experiments.digits --out work_dirs/look --quick --methods bn mabn',
    )
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='where results go')
    parser.add_argument('--quick', action='store_true', help='fewer and shorter trials: a look, no evidence')
    parser.add_argument(
        '--methods',
        nargs='+',
        choices=COMPETITORS,
        default=list(COMPETITORS),
        metavar='METHOD',
        help=f'some of {", ".join(COMPETITORS)} (default: all)',
    )
    parser.add_argument(
        '--comparisons',
        nargs='+',
        choices=NAMES,
        default=NAMES,
        metavar='NAME',
        help=f'some of {", ".join(NAMES)} (default: all)',
    )
    parser.add_argument(
        '--batch-sizes',
        nargs='+',
        type=positive_integer,
        metavar='N',
        help='images of a batch, in the order in which they run '
        '(default: of one process 1 2 4 8 32, of each worker 1 2 4)',
    )
    parser.add_argument('--seeds', type=positive_integer, metavar='N', help='trials of each kind')
    parser.add_argument('--images', type=positive_integer, metavar='N', help='training samples an epoch')
    parser.add_argument(
        '--workers',
        type=positive_integer,
        default=len(os.sched_getaffinity(0)),
        metavar='N',
        help='trials at a time, on one thread each (default: the number of cores, %(default)s)',
    )
    parser.add_argument(
        '--records', type=Path, metavar='CSV', help='go on from the trials that this file has, as well'
    )
    only = parser.add_mutually_exclusive_group()
    only.add_argument('--dry-run', action='store_true', help='print what is left to run, and for how long')
    only.add_argument('--report', action='store_true', help='write what has been run so far')
    return parser.parse_args()


def chosen_scale(args: Namespace) -> Scale:
    """Return how large a study the command line asks for."""
    given = {name: getattr(args, name) for name in ('seeds', 'images') if getattr(args, name)}
    if args.batch_sizes:
        given['batch_sizes'] = given['worker_batch_sizes'] = tuple(args.batch_sizes)
    return replace(QUICK if args.quick else FULL, **given)


def run(comparisons: Sequence[Comparison], seeds: int, results: Results, workers: int) -> None:
    """Run what is missing."""
    read = results.read

    def missing() -> Iterator[Trial]:
        return (trial for trial in known_trials(comparisons, seeds, read) if read(trial) is None)

    done = sum(read(trial) is not None for trial in known_trials(comparisons, seeds, read))
    expected = count_expected(comparisons, seeds, read)
    with tqdm(total=expected, initial=done, desc='trials', unit='trial') as progress:
        for trial in run_trials(missing, results.folder, workers):
            progress.total = count_expected(comparisons, seeds, read)  # more where rates are added
            progress.set_postfix_str(trial.name)
            progress.update()


def report(comparisons: Sequence[Comparison], seeds: int, results: Results, out: Path) -> None:
    """Write tables and pictures of the columns that are whole, and print the tables.

    Raises:
        StudyError: There is none.
    """
    outcomes = [read_outcome(comparison, seeds, results.read) for comparison in comparisons]
    outcomes = [outcome for outcome in outcomes if outcome]
    if not outcomes:
        raise StudyError(f'no column of a table is whole in {results.folder}; run the study without --report')
    with whole_file(out / 'tables.md') as partial:
        partial.write_text(to_markdown(outcomes, MEASURES, RATE))
    finished = filter(None, map(results.read, known_trials(comparisons, seeds, results.read)))
    with whole_file(out / 'trials.csv') as partial:
        partial.write_text(to_csv(list(finished), CURVES))
    for outcome in outcomes:
        name = outcome.comparison.name
        with whole_file(out / f'{name}.png') as partial:
            plot_comparison(outcome, MEASURES, partial)
        with whole_file(out / f'{name}_rates.png') as partial:
            plot_rates(outcome, RATE, partial)
        for measure in MEASURES:
            print(f'\n{outcome.comparison.title}: {measure.label}')
            print(text_table(table(outcome, measure)))
    first = outcomes[0]
    if SMALL_BATCH in first.values and has_curves(first, SMALL_BATCH, ACCURACY, EPOCHS):
        with whole_file(out / 'training_curves.png') as partial:
            plot_curves(first, SMALL_BATCH, (ACCURACY, TRAINING_LOSS), partial)
    print(f'\n{LEGEND}\n\ntables, trials.csv and pictures are in {out}')


def main() -> None:
    """Run what is missing, then report."""
    args = parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as an exception it ends the workers too
    scale = chosen_scale(args)
    comparisons = make_comparisons(scale, args.methods, args.comparisons)
    results = Results(args.out / 'trials')
    try:
        if not comparisons:
            methods, names = ', '.join(args.methods), ', '.join(args.comparisons)
            raise StudyError(f'nothing to compare with BN: --methods {methods} has none that is in {names}')
        if args.records:
            restore(args.records, Trial, results.folder, CURVES)
        if args.dry_run:
            rows = plan(comparisons, scale.seeds, results.read, args.workers, trial_seconds)
            print(text_table(rows))
            return
        if not args.report:
            run(comparisons, scale.seeds, results, args.workers)
        report(comparisons, scale.seeds, results, args.out)
    except KeyboardInterrupt:
        sys.exit(f'stopped; the same command goes on with the trials that are not in {results.folder}')
    except (StudyError, OSError) as error:
        sys.exit(f'error: {error}')


if __name__ == '__main__':
    main()
