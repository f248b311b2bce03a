"""Compare the normalization layers on a small task: accuracy over batch size, window size and burn-in.

Needs no download and no GPU. Where it was stopped, the same command goes on: results of finished trials are
in DIR/trials. At the end DIR holds tables.md, trials.csv and the pictures.
"""

from __future__ import annotations

import os
import signal
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from mmdet_cbn.whole_file import whole_file

from ..common.argument_types import positive_integer
from ..common.results import StudyError, read_result
from ..common.tables import text_table
from .comparisons import FULL, QUICK, SMALL_BATCH, Comparison, all_trials, make_comparisons
from .plots import plot_comparison, plot_curves
from .runner import missing_trials, run_trials
from .tables import MEASURES, Results, table, to_csv, to_markdown


def parse_args() -> Namespace:
    """Read the command line."""
    parser = ArgumentParser(
        'python -m experiments.digits', description=__doc__, formatter_class=RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='where results go')
    parser.add_argument('--quick', action='store_true', help='fewer and shorter trials: a look, no evidence')
    parser.add_argument('--seeds', type=positive_integer, metavar='N', help='trials of each kind')
    parser.add_argument('--images', type=positive_integer, metavar='N', help='training samples an epoch')
    parser.add_argument(
        '--workers',
        type=positive_integer,
        default=len(os.sched_getaffinity(0)),
        metavar='N',
        help='trials at a time, on one thread each (default: the number of cores, %(default)s)',
    )
    return parser.parse_args()


def scaled_comparisons(args: Namespace) -> tuple[Comparison, ...]:
    """Return what is compared, as large as the command line says."""
    given = {name: getattr(args, name) for name in ('seeds', 'images') if getattr(args, name)}
    return make_comparisons(replace(QUICK if args.quick else FULL, **given))


def report(comparisons: Sequence[Comparison], results: Results, out: Path) -> None:
    """Write the tables and the pictures, and print the tables."""
    with whole_file(out / 'tables.md') as partial:
        partial.write_text(to_markdown(comparisons, results))
    with whole_file(out / 'trials.csv') as partial:
        partial.write_text(to_csv(results))
    for comparison in comparisons:
        with whole_file(out / f'{comparison.name}.png') as partial:
            plot_comparison(comparison, results, partial)
        for measure in MEASURES:
            print(f'\n{comparison.title}: {measure.label}')
            print(text_table(table(comparison, results, measure)))
    with whole_file(out / 'training_curves.png') as partial:
        plot_curves(comparisons[0], SMALL_BATCH, results, partial)
    print(f'\ntables, trials.csv and pictures are in {out}')


def main() -> None:
    """Run what is missing, then report."""
    args = parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as an exception it ends the workers too
    folder = args.out / 'trials'
    comparisons = scaled_comparisons(args)
    trials = all_trials(comparisons)
    try:
        missing = missing_trials(trials, folder)
        done = len(trials) - len(missing)
        with tqdm(total=len(trials), initial=done, desc='trials', unit='trial') as progress:
            for trial in run_trials(missing, folder, args.workers):
                progress.set_postfix_str(trial.name)
                progress.update()
        report(comparisons, {trial: read_result(folder, trial) for trial in trials}, args.out)
    except KeyboardInterrupt:
        sys.exit(f'stopped; the same command goes on with the trials that are not in {folder}')
    except (StudyError, OSError) as error:
        sys.exit(f'error: {error}')


if __name__ == '__main__':
    main()
