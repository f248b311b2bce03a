"""Evaluate a detector: ``python tools/test.py CONFIG CHECKPOINT``, or tools/dist_test.sh."""

from argparse import ArgumentParser, Namespace
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
    parser = ArgumentParser(description='Evaluate a detector.')
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
        if not (cfg.get('default_hooks') or {}).get('visualization'):
            raise LaunchError('--show-dir needs default_hooks.visualization in the config')
        cfg.default_hooks.visualization.update(draw=True, test_out_dir=args.show_dir)


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
        from mmdet.evaluation import DumpDetResults

        runner.test_evaluator.metrics.append(DumpDetResults(out_file_path=out))
    runner.test()
    leave_processes()


if __name__ == '__main__':
    main()
