"""The options that training and testing have in common, and the config that they make."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from mmengine.config import Config, DictAction

from .errors import LaunchError


def add_common_arguments(parser: ArgumentParser) -> None:
    """Add the options of both programs, under the names that MMDetection gives them.

    Args:
        parser: Is changed in place. The positional arguments are expected to be there already.
    """
    parser.add_argument(
        '--work-dir',
        help='folder for logs and checkpoints (default: work_dirs/ and the name of the config)',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='settings of the config to replace, e.g. train_dataloader.batch_size=4 '
        'model.rpn_head.anchor_generator.scales="[4,8]"',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='how the processes were started (the dist_ and slurm_ scripts set it)',
    )
    parser.add_argument('--check', action='store_true', help='check config, data and devices, and stop there')


def load_config(args: Namespace) -> Config:
    """Read the config that the command line names and change what the command line says.

    Args:
        args: What a parser with :func:`add_common_arguments` and a ``config`` argument returned.

    Returns:
        The config, with ``launcher`` and ``work_dir`` set.

    Raises:
        LaunchError: There is no such config.
    """
    if not Path(args.config).is_file():
        raise LaunchError(f'there is no config {args.config}')
    cfg = Config.fromfile(args.config)
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    cfg.launcher = args.launcher
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or f'work_dirs/{Path(args.config).stem}'
    return cfg
