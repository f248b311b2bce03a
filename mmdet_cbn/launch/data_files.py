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
        raise LaunchError(f'data of the config is missing:\n{lines}\n{_remedy(missing)}')


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


def _remedy(missing: Iterable[str]) -> str:
    paths = '\n'.join(missing)
    shapes = re.search(r'^(.*\bshapes)/', paths, re.MULTILINE)
    if shapes:
        return SHAPES_REMEDY.format(root=shapes[1])
    return COCO_REMEDY if re.search(r'(train|val|test)2017', paths) else OTHER_REMEDY
