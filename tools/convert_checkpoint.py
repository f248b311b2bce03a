"""Convert a checkpoint that the papers' authors released to MMDetection 3."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mmdet_cbn.checkpoints import CheckpointError, convert_checkpoint
from mmdet_cbn.whole_file import explain_file


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog='example:\n  python tools/convert_checkpoint.py R50-wc.pth R50-wc_mmdet3.pth',
    )
    parser.add_argument(
        'src', type=Path, metavar='SRC', help='a CBN detector of MMDetection 0.6-1.x, or R50-wc.pth'
    )
    parser.add_argument('dst', type=Path, metavar='DST', help='the checkpoint to write')
    args = parser.parse_args()
    try:
        convert_checkpoint(args.src, args.dst)
    except CheckpointError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    except (OSError, RuntimeError) as error:
        print(f'error: {explain_file(error, args.dst)}', file=sys.stderr)
        return 1
    print(f'wrote {args.dst}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
