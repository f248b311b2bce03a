"""Report where runs stand and what they reached, beside what papers and their repositories report."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from pathlib import Path

from mmdet_cbn.launch.explanations import explain_file
from mmdet_cbn.whole_file import whole_file

sys.path.append(str(Path(__file__).resolve().parents[1]))  # experiments is not installed

from experiments.reports.curves import plot_curves
from experiments.reports.entries import Entry, ReportError, read_entry
from experiments.reports.tables import label_entries, to_csv, to_markdown

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
FORMATS = {'md': to_markdown, 'csv': to_csv}


def parse_args() -> Namespace:
    """Read the command line."""
    parser = ArgumentParser(
        description=__doc__,
        formatter_class=RawDescriptionHelpFormatter,
        epilog='example:\n  python tools/report.py work_dirs/*/ --curves curves.png',
    )
    parser.add_argument('work_dirs', nargs='+', type=Path, metavar='WORK_DIR', help='what --work-dir was')
    parser.add_argument('--format', choices=FORMATS, default='md', help='Markdown (default) or CSV')
    parser.add_argument('--out', type=Path, metavar='FILE', help='write the report here, not to the screen')
    parser.add_argument(
        '--curves', type=Path, metavar='FILE.png', help='draw training loss and what validation measured'
    )
    args = parser.parse_args()
    if args.curves and args.curves.suffix != '.png':
        parser.error(f'--curves {args.curves}: the name has to end in .png')
    return args


def write(path: Path, fill: Callable[[Path], object]) -> None:
    """Have a file written whole or not at all, and say so."""
    with whole_file(path) as partial:
        fill(partial)
    print(f'wrote {path}', file=sys.stderr)


def draw(entries: Sequence[Entry], path: Path) -> None:
    """Draw the curves of the runs that trained."""
    named = zip(label_entries(entries), entries, strict=True)
    logs = {label: entry.log for label, entry in named if entry.log}
    if not logs:
        raise ReportError('--curves: none of the runs has a log of a training')
    by_epoch = all(log.by_epoch for log in logs.values())
    metrics = ('coco/bbox_mAP', 'coco/segm_mAP', 'accuracy/top1', 'mIoU')
    write(path, lambda partial: plot_curves(logs, partial, metrics, loss_by_epoch=by_epoch))


def main() -> None:
    """Read all runs, then write."""
    args = parse_args()
    try:
        entries = [read_entry(work_dir, CONFIGS) for work_dir in args.work_dirs]
        text = FORMATS[args.format](entries)
        if args.curves:
            draw(entries, args.curves)
        if args.out:
            write(args.out, lambda partial: partial.write_text(text))
        else:
            print(text, end='')
    except ReportError as error:
        sys.exit(f'error: {error}')
    except OSError as error:
        sys.exit(f'error: {explain_file(error)}')


if __name__ == '__main__':
    main()
