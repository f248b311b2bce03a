"""Evaluate a model: ``python tools/test.py CONFIG CHECKPOINT``, or tools/dist_test.sh."""

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path

from mmengine.config import Config

from mmdet_cbn.launch import (
    LaunchError,
    add_common_arguments,
    build_runner,
    check_run,
    leave_processes,
    load_config,
    one_message,
)

SECTIONS = ('model', 'test_dataloader', 'test_cfg', 'test_evaluator')


def parse_arguments() -> Namespace:
    """Read the command line."""
    parser = ArgumentParser(
        description='Evaluate a model.',
        formatter_class=RawDescriptionHelpFormatter,
        epilog='example:\n  CONFIG=configs/quickstart/mask-rcnn_r18_fpn_4conv1fc_avgbn_shapes.py\n'
        '  python tools/test.py $CONFIG work_dirs/quickstart/epoch_3.pth --out predictions.pkl',
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    add_common_arguments(parser)
    parser.add_argument(
        '--out',
        metavar='FILE.pkl',
        help='write the predictions to this file, a pickle: whoever reads one executes what is in it',
    )
    parser.add_argument('--show-dir', help='write images with predictions to this folder of the work folder')
    return parser.parse_args()


def apply_options(cfg: Config, args: Namespace) -> None:
    """Put what only testing has on the command line into the config.

    Raises:
        LaunchError: An option that this config does not allow.
    """
    if not args.checkpoint.startswith(('http://', 'https://')) and not Path(args.checkpoint).is_file():
        raise LaunchError(
            f'there is no checkpoint {args.checkpoint}; training writes them to work_dirs/NAME OF THE CONFIG'
        )
    cfg.load_from = args.checkpoint
    if args.out and not args.out.endswith(('.pkl', '.pickle')):
        raise LaunchError(f'--out {args.out}: the name has to end in .pkl or .pickle')
    if args.out and Path(args.out).is_dir():
        raise LaunchError(f'--out {args.out} is a folder; give the name of a file')
    if args.show_dir:
        _show(cfg, args.show_dir)


def _show(cfg: Config, folder: str) -> None:
    """Have the hook of the config's library write images to a folder of the work folder.

    Raises:
        LaunchError: The config has no such hook.
    """
    hook = (cfg.get('default_hooks') or {}).get('visualization')
    if not hook:
        raise LaunchError('--show-dir needs default_hooks.visualization in the config')
    if hook.type == 'VisualizationHook':  # MMPretrain's
        hook.update(enable=True, interval=1, out_dir=str(Path(cfg.work_dir, folder)))
    elif hook.type == 'SegVisualizationHook':  # MMSegmentation's, which asks the visualizer where
        hook.update(draw=True, interval=1)
        cfg.visualizer.save_dir = str(Path(cfg.work_dir, folder))
    else:
        hook.update(draw=True, test_out_dir=folder)


def main() -> None:
    """Check everything that can be checked, then evaluate."""
    args = parse_arguments()
    with one_message():
        cfg = load_config(args, SECTIONS)
        apply_options(cfg, args)
        check_run(cfg, False, trust_checkpoint=args.trust_checkpoint, every_image=args.check)
        if not args.check:
            run(cfg, args.out, args.trust_checkpoint)


def run(cfg: Config, out: str | None, trust_checkpoint: bool) -> None:
    """Evaluate, and write the predictions if they are asked for."""
    runner = build_runner(cfg, trust_checkpoint)
    if out:
        if cfg.get('default_scope') == 'mmdet':
            from mmdet.evaluation import DumpDetResults as DumpResults  # whose masks are small
        else:
            from mmengine.evaluator import DumpResults

        runner.test_evaluator.metrics.append(DumpResults(out_file_path=out))
    runner.test()
    leave_processes()


if __name__ == '__main__':
    main()
