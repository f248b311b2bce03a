"""Convert a checkpoint of the papers' authors to MMDetection 3, or one of ours to plain BN."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mmdet_cbn.checkpoints import CheckpointError, convert_checkpoint
from mmdet_cbn.whole_file import explain_file

EXAMPLE = """example:
  CONFIG=configs/quickstart/mask-rcnn_r18_fpn_4conv1fc_avgbn_shapes.py
  python tools/convert_checkpoint.py --to-bn $CONFIG work_dirs/quickstart/epoch_3.pth plain.pth
"""


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'src',
        type=Path,
        metavar='SRC',
        help='a CBN detector of MMDetection 0.6-1.x, or R50-wc.pth; with --to-bn a checkpoint of CONFIG',
    )
    parser.add_argument('dst', type=Path, metavar='DST', help='the checkpoint to write')
    parser.add_argument(
        '--to-bn',
        metavar='CONFIG',
        help='write the checkpoint with plain BN, which MMDetection loads without this package; CONFIG is '
        'what SRC was trained with, and the plain config is in the meta of DST',
    )
    args = parser.parse_args()
    if args.to_bn:
        return to_batch_norm(args.to_bn, args.src, args.dst)
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


def to_batch_norm(config: str, src: Path, dst: Path) -> int:
    """Write a checkpoint with plain BN; return the exit status."""
    from mmdet_cbn.checkpoints.plain import needs_package, write_plain_checkpoint
    from mmdet_cbn.launch import load_trained_model, one_message

    with one_message():
        cfg, model, checkpoint = load_trained_model(config, str(src))
        try:
            plain = write_plain_checkpoint(cfg, model, checkpoint, dst)
        except (OSError, RuntimeError) as error:
            print(f'error: {explain_file(error, dst)}', file=sys.stderr)
            return 1
    print(f'wrote {dst}')
    if needs_package(plain):
        print('its detector has parts of mmdet_cbn.authors_detectors, which MMDetection 3 lacks')
    return 0


if __name__ == '__main__':
    sys.exit(main())
