"""Check that the files and folders that a config takes data from are there, and say where to get them."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .config_walk import mappings
from .errors import LaunchError

COCO_REMEDY = """\
COCO 2017 comes as train2017.zip, val2017.zip and annotations_trainval2017.zip from
https://cocodataset.org/#download; unpack them into one folder, so that it holds train2017/, val2017/
and annotations/. That folder is data/coco, or what the environment variable COCO_ROOT names."""

SHAPES_REMEDY = """\
The shapes data set is generated, by tools/quickstart.sh or by: python -m mmdet_cbn.data.shapes {root}"""

IMAGENET_REMEDY = """\
ImageNet (ILSVRC 2012) comes after registration from https://image-net.org/download-images; unpack it so that
one folder holds train/ and val/, and each of them one folder for each class, e.g. train/n01440764/. That
folder is data/imagenet, or what the environment variable IMAGENET_ROOT names."""

CITYSCAPES_REMEDY = """\
Cityscapes comes as leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip after registration at
https://www.cityscapes-dataset.com/downloads; unpack them into one folder, so that it holds leftImg8bit/ and
gtFine/. That folder is data/cityscapes, or what the environment variable CITYSCAPES_ROOT names."""

OTHER_REMEDY = """\
Set the folders to where the data is, e.g. with
--cfg-options train_dataloader.dataset.data_root=... train_dataloader.dataset.ann_file=..."""


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
        remedy = _remedy(missing, cfg)
        raise LaunchError(f'data of the config is missing:\n{lines}\n{remedy}')


def _paths(part: Any) -> Iterator[str]:
    """Yield the annotation files and data folders that a part of a config names.

    Folders end in a slash.
    """
    for node in mappings(part):
        if node.get('backend_args'):
            continue
        root = node.get('data_root') or ''
        ann_file = node.get('ann_file')
        if isinstance(ann_file, str) and ann_file:
            yield os.path.join(root, ann_file)
        prefixes = node.get('data_prefix')
        if node.get('type') == 'ImageNet':  # of MMPretrain, whose folders bear the names of the splits
            prefixes = prefixes or node.get('split')
        if isinstance(prefixes, str):
            prefixes = {'': prefixes}
        for prefix in prefixes.values() if isinstance(prefixes, Mapping) else ():
            folder = os.path.join(root, prefix) if isinstance(prefix, str) else ''
            if folder:
                yield os.path.join(folder, '')


def _is_there(path: str) -> bool:
    """Tell whether a file exists, or, for a path with a slash at its end, a folder that is not empty."""
    if '://' in path:
        return True
    if path.endswith('/'):
        return os.path.isdir(path) and next(os.scandir(path), None) is not None
    return os.path.isfile(path)


def _remedy(missing: Iterable[str], cfg: Mapping[str, Any]) -> str:
    paths = '\n'.join(missing)
    shapes = re.search(r'^(.*\bshapes)/', paths, re.MULTILINE)
    if shapes:
        return SHAPES_REMEDY.format(root=shapes[1])
    if re.search(r'/(leftImg8bit|gtFine)/', paths):
        return CITYSCAPES_REMEDY
    loaders = [cfg.get(f'{split}_dataloader') for split in ('train', 'val', 'test')]
    if any(node.get('type') == 'ImageNet' for node in mappings(loaders)):
        return IMAGENET_REMEDY
    return COCO_REMEDY if re.search(r'(train|val|test)2017', paths) else OTHER_REMEDY
