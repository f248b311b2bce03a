"""Compare the normalization layers in a small detector: box and mask AP at batch sizes of 1 and 2 images.

Needs no download and no GPU, and uses GPUs where there are any. Where it was stopped, the same command goes
on: results of finished runs are in DIR/results, a run that was cut off starts again. At the end DIR holds
tables.md and runs.csv.
"""

from __future__ import annotations

import signal
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from mmdet_cbn.data.shapes import generate
from mmdet_cbn.launch.explanations import explain_file
from mmdet_cbn.whole_file import whole_file

from ..common.argument_types import positive_integer
from ..common.methods import METHODS
from ..common.results import StudyError
from ..common.tables import text_table
from .plan import DetectionRun, plan_runs
from .runs import only_study, read_result, result_folder, train_and_write
from .tables import table, to_csv, to_markdown

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
    parser.add_argument('--report', action='store_true', help='run nothing, report what there is')
    parser.add_argument(
        '--methods',
        nargs='+',
        choices=METHODS,
        default=list(METHODS),
        metavar='NAME',
        help=f'some of {", ".join(METHODS)} (default: all)',
    )
    parser.add_argument(
        '--batch-sizes',
        nargs='+',
        type=positive_integer,
        default=[2, 1],
        metavar='N',
        help='images a process and iteration (default: 2 1)',
    )
    for name, default, text in (
        ('--seeds', 3, 'runs of each kind'),
        ('--epochs', DetectionRun.epochs, 'of each run'),
        ('--processes', DetectionRun.processes, 'of each run'),
        ('--train-images', DetectionRun.train_images, 'in the training set'),
        ('--val-images', DetectionRun.val_images, 'in the validation set'),
    ):
        parser.add_argument(
            name, type=positive_integer, default=default, metavar='N', help=f'{text} (default: %(default)s)'
        )
    return parser.parse_args()


def run_missing(runs: Sequence[DetectionRun], out: Path) -> None:
    """Train what has no result yet, one after the other: each run takes all cores."""
    with only_study(out) as lock:
        missing = [run for run in runs if read_result(out, run) is None]
        generate(out / 'data', train=runs[0].train_images, val=runs[0].val_images)
        with tqdm(total=len(runs), initial=len(runs) - len(missing), desc='runs', unit='run') as progress:
            for run in missing:
                progress.set_postfix_str(run.name)
                train_and_write(run, ROOT, out, lock)
                progress.update()


def report(runs: Sequence[DetectionRun], out: Path) -> None:
    """Write the table and a line for each run, and print the table."""
    results = {run: result for run in runs if (result := read_result(out, run))}
    if not results:
        raise StudyError(f'none of the {len(runs)} runs has a result in {result_folder(out)}')
    for name, text in (('tables.md', to_markdown(results)), ('runs.csv', to_csv(results))):
        with whole_file(out / name) as partial:
            partial.write_text(text)
    print(f'\n{text_table(table(results))}')
    print(f'\n{len(results)} of {len(runs)} runs; tables.md and runs.csv are in {out}')


def main() -> None:
    """Run what is missing, then report."""
    args = parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup asks for that
            signal.signal(number, lambda *_: sys.exit(143))  # as an exception it ends the run, too
    runs = plan_runs(
        args.methods,
        args.batch_sizes,
        args.seeds,
        epochs=args.epochs,
        processes=args.processes,
        train_images=args.train_images,
        val_images=args.val_images,
    )
    try:
        if not args.report:
            run_missing(runs, args.out)
        report(runs, args.out)
    except KeyboardInterrupt:
        sys.exit(f'stopped; the same command goes on with the runs that are not in {result_folder(args.out)}')
    except (StudyError, FileExistsError) as error:
        sys.exit(f'error: {error}')
    except OSError as error:
        sys.exit(f'error: {explain_file(error)}')


if __name__ == '__main__':
    main()
