"""Checks before anything is written: data, model, checkpoints, devices and the work folder of a config."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from inspect import isclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from torch import nn

from .annotations import check_annotations
from .checkpoints import check_checkpoints
from .errors import LaunchError, is_first_process
from .model import check_classes, check_model
from .registries import find_type

COCO_REMEDY = """\
COCO 2017 comes as train2017.zip, val2017.zip and annotations_trainval2017.zip from
https://cocodataset.org/#download; unpack them into one folder, so that it holds train2017/, val2017/
and annotations/. That folder is data/coco, or what the environment variable COCO_ROOT names."""

SHAPES_REMEDY = """\
The shapes data set is generated, by tools/quickstart.sh or by: python -m mmdet_cbn.data.shapes {root}"""

OTHER_REMEDY = """\
Set the folders to where the data is, e.g. with
--cfg-options train_dataloader.dataset.data_root=... train_dataloader.dataset.ann_file=..."""


def check_run(cfg: Config, training: bool) -> None:
    """Check all that can be checked without writing anything, in the first process of each machine.

    Args:
        cfg: A whole config with ``launcher`` and ``work_dir`` set.
        training: Whether to train, with validation; else to test.

    Raises:
        LaunchError: The run cannot do what the config says.
    """
    check_devices(cfg)
    if not is_first_process():
        return
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    splits = ['train', 'val'] if training else ['test']
    check_work_dir(cfg['work_dir'])
    check_data(cfg, splits)
    model = check_model(cfg, training)
    check_checkpoints(cfg, model, training)
    check_content(cfg, splits, model)


def check_work_dir(work_dir: str) -> None:
    """Check that the work folder is there or can be made.

    Raises:
        LaunchError: A file is in its place, or it cannot be written.
    """
    there = Path(work_dir).absolute()
    while not there.exists():
        there = there.parent
    if not there.is_dir():
        raise LaunchError(f'--work-dir {work_dir}: {there} is a file; give the name of a folder')
    if not os.access(there, os.W_OK):
        raise LaunchError(f'--work-dir {work_dir}: {there} may not be written to; give another folder')


def check_content(cfg: Mapping[str, Any], splits: Iterable[str], model: nn.Module) -> None:
    """Check what the COCO data sets of a config contain: see :func:`check_annotations`.

    Args:
        cfg: A whole config whose files exist.
        splits: Which of 'train', 'val' and 'test' are going to be used.
        model: Its heads must have as many classes.

    Raises:
        LaunchError: A data set is of an unknown type, or its annotations or images are wrong.
    """
    checked = []
    for split in splits:
        for dataset in _datasets(cfg.get(f'{split}_dataloader')):
            arguments = _annotations(dataset, split)
            if arguments and arguments not in checked:
                checked.append(arguments)
                check_annotations(**arguments)
                if arguments['classes']:
                    check_classes(model, arguments['classes'])


def check_data(cfg: Mapping[str, Any], splits: Iterable[str]) -> None:
    """Check that the files and folders of the data sets and evaluators of a config exist.

    Wrapped data sets (``RepeatDataset``, ``ConcatDataset``, ...) are looked into. Data sets that are read
    through a storage service (``backend_args``) are left out.

    Args:
        cfg: A whole config.
        splits: Which of 'train', 'val' and 'test' are going to be used.

    Raises:
        LaunchError: Something is missing; the message lists what, and says where to get it.
    """
    missing = dict.fromkeys(
        path
        for split in splits
        for part in ('dataloader', 'evaluator')
        for path in _paths(cfg.get(f'{split}_{part}'))
        if not _is_there(path)
    )
    if missing:
        lines = '\n'.join(f'  {path}' for path in missing)
        raise LaunchError(f'data of the config is missing:\n{lines}\n{_remedy(missing)}')


def check_devices(cfg: Mapping[str, Any]) -> None:
    """Check that there is a GPU for each process, unless there are no GPUs at all.

    Args:
        cfg: A config with ``launcher`` set. Under torchrun, the number of processes on this machine
            comes from the environment.

    Raises:
        LaunchError: More processes than GPUs, or a launcher that cannot do without GPUs.
    """
    if cfg['launcher'] == 'none':
        return
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    processes = int(os.environ.get('LOCAL_WORLD_SIZE', '1'))
    if gpus and processes > gpus:
        raise LaunchError(
            f'{processes} processes were asked for, and this machine has {gpus} GPU(s): ask for at most '
            f'{gpus}, or set CUDA_VISIBLE_DEVICES=-1 to run on the CPU'
        )
    if not gpus and cfg['launcher'] != 'pytorch':
        raise LaunchError(
            f'--launcher {cfg["launcher"]} needs GPUs, and this machine has none; on the CPU use '
            'tools/dist_train.sh and tools/dist_test.sh'
        )


def _paths(node: Any) -> Iterator[str]:
    """Walk a config and yield the annotation files and data folders that its data sets name.

    Folders end in a slash.
    """
    if isinstance(node, Mapping):
        if node.get('backend_args'):
            return
        root = node.get('data_root') or ''
        ann_file = node.get('ann_file')
        if isinstance(ann_file, str) and ann_file:
            yield os.path.join(root, ann_file)
        prefixes = node.get('data_prefix')
        if isinstance(prefixes, Mapping):
            for prefix in prefixes.values():
                folder = os.path.join(root, prefix) if isinstance(prefix, str) else ''
                if folder:
                    yield os.path.join(folder, '')
        for value in node.values():
            yield from _paths(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _paths(value)


def _datasets(node: Any) -> Iterator[Mapping[str, Any]]:
    """Find the data sets of a data loader inside of their wrappers."""
    if isinstance(node, Mapping):
        if node.get('ann_file') and 'type' in node and not node.get('backend_args'):
            yield node
        for value in node.values():
            yield from _datasets(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _datasets(value)


def _annotations(dataset: Mapping[str, Any], split: str) -> dict[str, Any] | None:
    """Return the arguments of :func:`check_annotations`; None for data that are not COCO's, or far away."""
    from mmdet.datasets import CocoDataset

    found = find_type(DATASETS, dataset['type'], f'{split}_dataloader.dataset', ['CocoDataset'])
    root = dataset.get('data_root') or ''
    path = os.path.join(root, dataset['ann_file'])
    if not (isclass(found) and issubclass(found, CocoDataset)) or '://' in path:
        return None
    prefix = (dataset.get('data_prefix') or {}).get('img')
    classes = (dataset.get('metainfo') or {}).get('classes', found.METAINFO.get('classes'))
    return {
        'path': path,
        'folder': os.path.join(root, prefix) if isinstance(prefix, str) else None,
        'classes': None if isinstance(classes, str) else classes,
        'masks': any(step.get('with_mask') for step in _steps(dataset.get('pipeline') or ())),
        'annotated': split != 'test',
    }


def _steps(pipeline: Sequence[Any]) -> Iterator[Mapping[str, Any]]:
    for step in pipeline:
        if isinstance(step, Mapping):
            yield step
            if isinstance(step.get('transforms'), list | tuple):
                yield from _steps(step['transforms'])


def _is_there(path: str) -> bool:
    """Tell whether a file exists, or, for a path with a slash at its end, a folder that is not empty."""
    if '://' in path:
        return True
    if path.endswith('/'):
        return os.path.isdir(path) and next(os.scandir(path), None) is not None
    return os.path.isfile(path)


def _remedy(missing: Iterable[str]) -> str:
    paths = '\n'.join(missing)
    shapes = re.search(r'^(.*\bshapes)/', paths, re.MULTILINE)
    if shapes:
        return SHAPES_REMEDY.format(root=shapes[1])
    return COCO_REMEDY if re.search(r'(train|val|test)2017', paths) else OTHER_REMEDY
