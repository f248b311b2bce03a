"""Checks of what the data sets of MMPretrain and MMSegmentation contain, and of the heads' classes."""

import inspect
import os
from collections.abc import Iterable, Mapping, Sequence
from inspect import isclass
from pathlib import Path
from typing import Any

from mmengine.registry import DATASETS
from torch import nn

from .config_walk import mappings
from .errors import LaunchError
from .registries import find_type


def check_sister_data(cfg: Mapping[str, Any], splits: Iterable[str], model: nn.Module) -> None:
    """Check folders of classified images, or images and their label maps, and the number of classes.

    Args:
        cfg: A whole config whose folders exist; ``default_scope`` tells whose data sets it has.
        splits: Which of 'train', 'val' and 'test' are going to be used.
        model: Its head must have as many classes.

    Raises:
        LaunchError: A data set is of an unknown type, or lacks classes, images or label maps.
    """
    checks = {'mmpretrain': _check_class_folders, 'mmseg': _check_label_maps}
    check = checks.get(str(cfg.get('default_scope')))
    if check is None:
        return
    for node in (node for split in splits for node in mappings(cfg.get(f'{split}_dataloader'))):
        # Lists of files are left to the libraries, as are data that are far away.
        if isinstance(node.get('data_root'), str) and not (node.get('ann_file') or node.get('backend_args')):
            check(node, find_type(DATASETS, node.get('type'), 'dataset', ['ImageNet']), model)


def _check_class_folders(node: Mapping[str, Any], found: Any, model: nn.Module) -> None:
    from mmpretrain.datasets import CustomDataset

    root, split = Path(node['data_root']), node.get('split')
    if (
        not (isclass(found) and issubclass(found, CustomDataset))
        or (root / 'meta' / f'{split}.txt').is_file()
    ):
        return
    prefix = node.get('data_prefix') or split or ''
    folder = root / (prefix.get('img_path', '') if isinstance(prefix, Mapping) else prefix)
    folders = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    classes = _classes(node, found)
    if not folders:
        raise LaunchError(
            f'{folder} holds no folder: its images must lie in one folder for each class, as those of '
            'ImageNet lie in train/n01440764/; move them there, those of val by the list of its labels'
        )
    if classes and len(folders) != len(classes):
        raise LaunchError(
            f'{folder} holds {len(folders)} folders, and the data set has {len(classes)} classes: it needs '
            'one for each; unpack what is missing, or set metainfo=dict(classes=...) of every data set'
        )
    empty = [name for name in folders if next(os.scandir(folder / name), None) is None]
    if empty:
        raise LaunchError(
            f'{len(empty)} of the {len(folders)} folders in {folder} are empty, e.g. {empty[0]}; unpack again'
        )
    _check_head('head', getattr(model, 'head', None), len(folders), folder)


def _check_label_maps(node: Mapping[str, Any], found: Any, model: nn.Module) -> None:
    from mmseg.datasets import BaseSegDataset

    prefixes = node.get('data_prefix')
    if not (isclass(found) and issubclass(found, BaseSegDataset)) or not isinstance(prefixes, Mapping):
        return
    images = Path(node['data_root'], prefixes.get('img_path') or '')
    endings = [_argument(node, found, name) for name in ('img_suffix', 'seg_map_suffix')]
    names = [path.relative_to(images) for path in images.rglob(f'*{endings[0]}')]
    if not names:
        raise LaunchError(f'{images} holds no file *{endings[0]}; unpack the images, or set img_suffix')
    if prefixes.get('seg_map_path'):
        maps = Path(node['data_root'], prefixes['seg_map_path'])
        there = {path.relative_to(maps) for path in maps.rglob(f'*{endings[1]}')}
        labels = [Path(f'{name}'.removesuffix(endings[0]) + endings[1]) for name in names]
        missing = [label for label in labels if label not in there]
        if missing:
            raise LaunchError(
                f'{len(missing)} of the {len(names)} images in {images} have no label map in {maps}, e.g. '
                f'{missing[0]}; Cityscapes comes without those of training ids: pip install '
                'cityscapesscripts, set CITYSCAPES_DATASET to its folder, and run csCreateTrainIdLabelImgs'
            )
    classes = _classes(node, found)
    if classes:
        for name in ('decode_head', 'auxiliary_head'):
            _check_head(name, getattr(model, name, None), len(classes), images)


def _classes(node: Mapping[str, Any], found: Any) -> Sequence[str]:
    classes = (node.get('metainfo') or {}).get('classes', found.METAINFO.get('classes'))
    return () if classes is None or isinstance(classes, str) else classes


def _argument(node: Mapping[str, Any], found: Any, name: str) -> str:
    """Return an argument of a data set's constructor, or what it takes where the config has none."""
    return node.get(name) or inspect.signature(found).parameters[name].default


def _check_head(name: str, head: Any, number: int, folder: Path) -> None:
    own = getattr(head, 'num_classes', None)
    if isinstance(own, int) and own != number:
        raise LaunchError(
            f'{name} has num_classes={own}, and {folder} {number} classes: '
            f'set model.{name}.num_classes={number}'
        )
