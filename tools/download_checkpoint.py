"""Download a checkpoint that the papers' authors released, and convert it to MMDetection 3."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mmdet_cbn.checkpoints import CATALOGUE, CheckpointError, convert_checkpoint
from mmdet_cbn.checkpoints.download import download_checkpoint
from mmdet_cbn.whole_file import explain_file


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog='example:\n  python tools/download_checkpoint.py mask-rcnn_r50_fpn_4conv1fc_cbn --convert',
    )
    parser.add_argument('name', nargs='?', choices=CATALOGUE, metavar='NAME', help='see --list')
    parser.add_argument('--list', action='store_true', help='list the released models')
    parser.add_argument('--dest', type=Path, default=Path('checkpoints'), metavar='DIR')
    parser.add_argument('--convert', action='store_true', help='also write NAME_mmdet3.pth')
    args = parser.parse_args()
    if not args.list and args.name is None:
        parser.error('give the NAME of a model, or --list')
    return args


def list_models() -> None:
    """Print the catalogue as a table."""
    row = '{:<35} {:>6} {:>7}  {}'.format
    print(row('name', 'AP box', 'AP mask', 'page'))
    for model in CATALOGUE.values():
        print(row(model.name, model.box_ap or '-', model.mask_ap or '-', model.page))


def fetch(name: str, folder: Path, convert: bool) -> None:
    """Download a model, convert it if asked to, and say where the files are."""
    model = CATALOGUE[name]
    source = download_checkpoint(model, folder)
    print(f'released:  {source}')
    if not convert:
        return
    converted = folder / model.converted_filename
    if not converted.exists():
        convert_checkpoint(source, converted)
    print(f'converted: {converted}')
    if model.config:
        print(f'config:    {model.config}')


def main() -> int:
    """Run the command line; return the exit status."""
    args = parse_args()
    if args.list:
        list_models()
        return 0
    try:
        fetch(args.name, args.dest, args.convert)
    except CheckpointError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    except (OSError, RuntimeError) as error:
        print(f'error: {explain_file(error, args.dest)}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
