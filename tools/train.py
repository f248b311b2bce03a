"""Train a model: ``python tools/train.py CONFIG``, or tools/dist_train.sh for several processes."""

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter

from mmengine.config import Config

from mmdet_cbn.launch import (
    LaunchError,
    add_common_arguments,
    build_runner,
    check_batches,
    check_run,
    leave_processes,
    load_config,
    one_message,
)

SECTIONS = ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper')


def parse_arguments() -> Namespace:
    """Read the command line."""
    parser = ArgumentParser(
        description='Train a model.',
        formatter_class=RawDescriptionHelpFormatter,
        epilog='example:\n  CONFIG=configs/quickstart/mask-rcnn_r18_fpn_4conv1fc_cbn_shapes.py\n'
        '  python tools/train.py $CONFIG --work-dir work_dirs/cbn',
    )
    parser.add_argument('config', help='config file')
    add_common_arguments(parser)
    parser.add_argument(
        '--amp', action='store_true', help='mixed precision: float16 with loss scaling (on a GPU)'
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from this checkpoint, or, without a name, from the last one of the work folder',
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate with the number of images in an iteration',
    )
    return parser.parse_args()


def apply_options(cfg: Config, args: Namespace) -> None:
    """Put what only training has on the command line into the config.

    Raises:
        LaunchError: An option that this config or this machine does not allow.
    """
    if args.amp:
        import torch

        if not torch.cuda.is_available():
            raise LaunchError('--amp needs a GPU, and this machine has none')
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.loss_scale = 'dynamic'
    if args.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            raise LaunchError('--auto-scale-lr needs auto_scale_lr = dict(base_batch_size=N) in the config')
        cfg.auto_scale_lr.enable = True
    if args.resume:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume


def main() -> None:
    """Check everything that can be checked, then train."""
    args = parse_arguments()
    with one_message():
        cfg = load_config(args, SECTIONS)
        apply_options(cfg, args)
        check_run(cfg, training=True, trust_checkpoint=args.trust_checkpoint)
        if not args.check:
            runner = build_runner(cfg, args.trust_checkpoint)
            check_batches(runner)
            runner.train()
            leave_processes()


if __name__ == '__main__':
    main()
