"""Print what tools/quickstart.sh reached, and draw its curves and detections."""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path

from mmengine.config import Config

from experiments.reports.curves import plot_curves
from experiments.reports.detections import draw_sheet
from experiments.reports.runs import read_run, read_test_metrics


def main() -> None:
    """Read the work folder that tools/quickstart.sh filled."""
    parser = ArgumentParser(
        description=__doc__,
        formatter_class=RawDescriptionHelpFormatter,
        epilog='example:\n  CONFIG=configs/quickstart/mask-rcnn_r18_fpn_4conv1fc_cbn_shapes.py\n'
        '  python tools/quickstart_summary.py $CONFIG work_dirs/quickstart '
        '--train-seconds 185 --test-seconds 18',
    )
    parser.add_argument('config')
    parser.add_argument('work_dir', type=Path)
    parser.add_argument('--train-seconds', type=int, required=True)
    parser.add_argument('--test-seconds', type=int, required=True)
    args = parser.parse_args()

    curves, detections = args.work_dir / 'curves.png', args.work_dir / 'detections.png'
    cfg = Config.fromfile(args.config)
    plot_curves({Path(args.config).stem: read_run(args.work_dir)}, curves)
    draw_sheet(args.work_dir / 'predictions.pkl', cfg.test_dataloader.dataset.metainfo, detections)

    metrics = read_test_metrics(args.work_dir / 'test')
    print('\n          AP   AP50')
    for kind in ('bbox', 'segm'):
        # Where nothing at all was detected, there is no metric.
        ap, ap50 = (metrics.get(f'coco/{kind}_{name}', 0.0) for name in ('mAP', 'mAP_50'))
        print(f'{kind}  {ap:6.3f} {ap50:6.3f}')
    print(f'seconds: {args.train_seconds} of training, {args.test_seconds} of evaluation')
    print(f'loss and AP curves: {curves}\nboxes and masks:    {detections}')


if __name__ == '__main__':
    main()
