"""The options that training and testing have in common, and the config that they make."""

import inspect
import os
import re
from argparse import ArgumentError, ArgumentParser, Namespace
from collections.abc import Sequence
from difflib import get_close_matches
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

from mmengine.config import Config, DictAction
from mmengine.runner import Runner

from .errors import LaunchError
from .explanations import last_line
from .processes import place_process

# What MMDetection's programs and MMEngine read beside the arguments of the Runner.
_OTHER_SETTINGS = {'auto_scale_lr', 'find_unused_parameters', 'model_wrapper_cfg', 'runner_type', 'compile'}

# Libraries of which some configs take their models; the package needs neither.
_SISTERS = {'mmpretrain': 'MMPretrain', 'mmseg': 'MMSegmentation'}


class _Settings(DictAction):
    """MMEngine's ``--cfg-options``, whose errors argparse reports."""

    def __call__(self, parser: ArgumentParser, namespace: Namespace, values: Any, *args: Any) -> None:
        for value in values:
            if not re.match(r'[^=\s]+=', value):
                raise ArgumentError(self, f'{value!r} is not KEY=VALUE, e.g. train_dataloader.batch_size=4')
        try:
            super().__call__(parser, namespace, values, *args)
        except AssertionError as error:
            raise ArgumentError(self, str(error)) from None


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
        action=_Settings,
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
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='load checkpoints that hold more than tensors, plain values and what MMEngine saves: that '
        'executes the code in them',
    )
    parser.add_argument(
        '--check',
        action='store_true',
        help='check config, data and devices, and stop there; the size of every image is compared, where a '
        'run compares that of 200',
    )


def load_config(args: Namespace, sections: Sequence[str]) -> Config:
    """Read the config that the command line names and change what the command line says.

    Args:
        args: What a parser with :func:`add_common_arguments` and a ``config`` argument returned.
        sections: Names that the config must define.

    Returns:
        The config, with ``launcher`` and ``work_dir`` set.

    Raises:
        LaunchError: There is no such config, it cannot be read or lacks a section, or ``--cfg-options``
            does not fit it.
    """
    place_process(args.launcher)
    cfg = read_config(args.config)
    lacking = [name for name in sections if cfg.get(name) is None]
    if lacking:
        raise LaunchError(
            f'{args.config} does not define {", ".join(lacking)}: base it on a whole config (_base_ = ...)'
        )
    if args.cfg_options:
        _replace(cfg, args.cfg_options)
    cfg.launcher = args.launcher
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or f'work_dirs/{Path(args.config).stem}'
    return cfg


def read_config(path: str) -> Config:
    """Read a config.

    Raises:
        LaunchError: There is none, or it cannot be read.
    """
    if not Path(path).is_file():
        raise LaunchError(f'there is no config {path}; the configs of this project are in configs/*/*.py')
    try:
        return Config.fromfile(path)
    except Exception as error:  # it is a Python file: what a wrong one raises can be anything
        text = last_line(error)
        unset = re.match(r'`?(\w+)`? cannot be found in `os\.environ`', text)
        if unset and unset[1] in os.environ:
            raise LaunchError(
                f'{path} uses the environment variable {unset[1]}, which is set but empty: '
                'set it to the folder of the data, or unset it to take the default'
            ) from None
        sister = re.match(r'(\w+) is not installed', text)
        if sister and sister[1] in _SISTERS:
            library = _SISTERS[sister[1]]
            raise LaunchError(
                f'{path} trains with {library}, which is not installed: run tools/setup_env.sh in a '
                f'checkout, or pip install {_beside_mmengine(library.lower())}'
            ) from None
        text = re.sub(r', the current sys\.path is: .* (?=You should)', '. ', text)  # pages of folders
        raise LaunchError(f'cannot read the config {path}: {type(error).__name__}: {text}') from error


def _beside_mmengine(name: str) -> str:
    """Return the distribution of a library that fits the installed one of MMEngine, which has two."""
    mmengine = packages_distributions().get('mmengine', ['mmengine'])[0]
    return mmengine.replace('mmengine', name)


def _replace(cfg: Config, settings: dict[str, Any]) -> None:
    known = {*cfg, *inspect.signature(Runner.__init__).parameters, *_OTHER_SETTINGS}
    for key, value in settings.items():
        section = key.partition('.')[0]
        if section not in known:
            near = get_close_matches(section, known, 1)
            hint = f'did you mean {near[0]}?' if near else 'see the names in the config'
            raise LaunchError(f'--cfg-options {key}={value}: the config has no {section}; {hint}')
        try:
            cfg.merge_from_dict({key: value})
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise LaunchError(
                f'--cfg-options {key}={value} does not fit the config: {last_line(error)}'
            ) from error
