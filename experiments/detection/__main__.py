"""Compare the normalization layers in a small detector, from scratch and with a pretrained backbone.

Needs no download and no GPU, and uses GPUs where there are any. The regime that fits photographs takes part
where --photographs names some. Each norm runs at a number of learning rates, of which the one that is best on
a validation split is compared. Where it was stopped, the same command goes on: results of finished runs are
in DIR/results, a run that was cut off starts again. At the end, and with --report at any time, DIR holds
tables.md, runs.csv and the pictures, of the columns that are whole.

    python -m experiments.detection --out work_dirs/detection --regimes pretrained --batch-sizes 1
"""

from __future__ import annotations

import json
import signal
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tqdm import tqdm

from mmdet_cbn.data.shapes import generate
from mmdet_cbn.launch.explanations import explain_file
from mmdet_cbn.whole_file import whole_file

from ..common.argument_types import positive_integer
from ..common.comparisons import Comparison, read_outcome
from ..common.methods import METHODS
from ..common.plan import count_expected, known_trials
from ..common.records import restore
from ..common.results import StudyError
from ..common.study_plots import has_curves, plot_comparison, plot_curves, plot_rates
from ..common.study_tables import LEGEND, measured, table, to_csv, to_markdown
from ..common.tables import text_table
from .comparisons import make_comparisons
from .configs import other_data, photographs, test_data
from .measures import DRAWN, MEASURES, RATE, TRAINING_LOSS
from .regimes import REGIMES
from .runs import only_study, pretrain, read_result, result_folder, train_and_write
from .trials import DetectionRun

ROOT = Path(__file__).resolve().parents[2]


def parse_args() -> Namespace:
    """Read the command line."""
    parser = ArgumentParser(
        'python -m experiments.detection',
        description=__doc__,
        formatter_class=RawDescriptionHelpFormatter,
        epilog='example:\n  python -m experiments.detection --out work_dirs/detection --seeds 1',
    )
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='where results go')
    parser.add_argument(
        '--records', type=Path, metavar='CSV', help='go on from the runs that this file has, as well'
    )
    parser.add_argument('--report', action='store_true', help='run nothing, report what there is')
    parser.add_argument(
        '--photographs',
        type=Path,
        metavar='DIR',
        help="what the regime 'photographs' fits: the training images of a folder in COCO's layout",
    )
    for name, known in (('--regimes', REGIMES), ('--methods', METHODS)):
        parser.add_argument(
            name,
            nargs='+',
            choices=known,
            metavar='NAME',
            help=f'some of {", ".join(known)} (default: all)',
        )
    parser.add_argument(
        '--batch-sizes',
        nargs='+',
        type=positive_integer,
        default=[1, 2],
        metavar='N',
        help='images a process and iteration (default: 1 2)',
    )
    for name, default, text in (
        ('--seeds', 3, 'runs of each kind that are compared'),
        ('--processes', 2, 'of each run'),
        ('--train-images', 500, 'in the training set'),
        ('--pretraining-images', 1200, 'that the pretrained backbone has seen'),
        ('--held-out', 200, 'images in the validation and the test split'),
    ):
        parser.add_argument(
            name, type=positive_integer, default=default, metavar='N', help=f'{text} (default: %(default)s)'
        )
    parser.add_argument(
        '--epochs', type=positive_integer, metavar='N', help='of each run (default: those of its regime)'
    )
    return parser.parse_args()


def count_photographs(folder: Path) -> int:
    """Count the training images with objects of a folder in COCO's layout; 0 where it is not there.

    Raises:
        OSError: The folder has no annotations.
    """
    if not folder.exists():
        return 0
    annotations = json.loads((folder / 'annotations' / 'instances_train2017.json').read_text())['annotations']
    return len({annotation['image_id'] for annotation in annotations})


def link_photographs(folder: Path, out: Path) -> None:
    """Link a folder into that of the study, unless it is."""
    link, target = photographs(out), folder.resolve()
    if link.resolve() != target:
        link.unlink(missing_ok=True)
        link.symlink_to(target)


def choose_regimes(names: Sequence[str] | None, photographs: int) -> list[str]:
    """Return the regimes that are asked for, by default those whose data there are.

    Raises:
        StudyError: There are no photographs for one of them.
    """
    if photographs:
        return list(names or REGIMES)
    if names and any(REGIMES[name].photographs for name in names):
        raise StudyError("the regime 'photographs' needs --photographs DIR")
    return list(names or (name for name, regime in REGIMES.items() if not regime.photographs))


def run_missing(comparisons: Sequence[Comparison], args: Namespace) -> None:
    """Train what has no result yet, one after the other: each run takes all cores."""
    read = partial(read_result, args.out)
    with only_study(args.out) as lock:
        if args.photographs:
            link_photographs(args.photographs, args.out)
        generate(test_data(args.out), args.train_images, args.held_out)
        generate(other_data(args.out), args.pretraining_images, args.held_out, seed=1)
        if any(REGIMES[comparison.name].pretrained for comparison in comparisons):
            pretrain(args.processes, ROOT, args.out, lock)
        done = sum(read(run) is not None for run in known_trials(comparisons, args.seeds, read))
        expected = count_expected(comparisons, args.seeds, read)
        with tqdm(total=expected, initial=done, desc='runs', unit='run') as progress:
            while run := next((r for r in known_trials(comparisons, args.seeds, read) if not read(r)), None):
                progress.set_postfix_str(run.name)
                train_and_write(run, ROOT, args.out, lock)
                progress.total = count_expected(comparisons, args.seeds, read)  # more where rates are added
                progress.update()


def report(comparisons: Sequence[Comparison], args: Namespace) -> None:
    """Write tables and pictures of the columns that are whole, and print the tables.

    Raises:
        StudyError: There is none.
    """
    read = partial(read_result, args.out)
    outcomes = [read_outcome(comparison, args.seeds, read) for comparison in comparisons]
    outcomes = [outcome for outcome in outcomes if outcome]
    if not outcomes:
        raise StudyError(f'no column of a table is whole in {result_folder(args.out)}')
    finished = filter(None, map(read, known_trials(comparisons, args.seeds, read)))
    curves = [measure.key for measure in MEASURES]
    for name, text in (
        ('tables.md', to_markdown(outcomes, MEASURES, RATE)),
        ('runs.csv', to_csv(list(finished), curves)),
    ):
        with whole_file(args.out / name) as path:
            path.write_text(text)
    for outcome in outcomes:
        comparison = outcome.comparison
        with whole_file(args.out / f'{comparison.name}.png') as path:
            plot_comparison(outcome, measured(outcome, DRAWN), path)
        with whole_file(args.out / f'{comparison.name}_rates.png') as path:
            plot_rates(outcome, RATE, path)
        for value in outcome.values:
            epochs = next(iter(comparison.settings.values()))[value].epochs
            if has_curves(outcome, value, TRAINING_LOSS, epochs):
                with whole_file(args.out / f'{comparison.name}_curves_{value}.png') as path:
                    plot_curves(outcome, value, [TRAINING_LOSS], path)
        for measure in measured(outcome, MEASURES):
            print(f'\n{comparison.title}: {measure.label}')
            print(text_table(table(outcome, measure)))
    print(f'\n{LEGEND}\n\ntables.md, runs.csv and pictures are in {args.out}')


def main() -> None:
    """Run what is missing, then report."""
    args = parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup asks for that
            signal.signal(number, lambda *_: sys.exit(143))  # as an exception it ends the run, too
    try:
        count = count_photographs(args.photographs or photographs(args.out))
        comparisons = make_comparisons(
            choose_regimes(args.regimes, count),
            args.methods or METHODS,
            args.batch_sizes,
            args.epochs,
            count,
            processes=args.processes,
            train_images=args.train_images,
            held_out=args.held_out,
        )
        if args.records:
            with only_study(args.out):
                curves = [measure.key for measure in MEASURES]
                restore(args.records, DetectionRun, result_folder(args.out), curves)
        if not args.report:
            run_missing(comparisons, args)
        report(comparisons, args)
    except KeyboardInterrupt:
        sys.exit(f'stopped; the same command goes on with the runs that are not in {result_folder(args.out)}')
    except (StudyError, FileExistsError) as error:
        sys.exit(f'error: {error}')
    except OSError as error:
        sys.exit(f'error: {explain_file(error)}')


if __name__ == '__main__':
    main()
