"""Check what is in the COCO data sets of a config, and that the model has as many classes."""

import os
from collections.abc import Iterable, Mapping
from inspect import isclass
from typing import Any

from mmengine.registry import DATASETS
from torch import nn

from .annotations import check_annotations
from .config_walk import mappings
from .model import check_classes
from .registries import find_type


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
        for node in mappings(cfg.get(f'{split}_dataloader')):
            arguments = _annotations(node, split)
            if arguments and arguments not in checked:
                checked.append(arguments)
                check_annotations(**arguments)
                if arguments['classes']:
                    check_classes(model, arguments['classes'])


def _annotations(node: Mapping[str, Any], split: str) -> dict[str, Any] | None:
    """Return the arguments of :func:`check_annotations`; None for what is no COCO data set, or far away."""
    from mmdet.datasets import CocoDataset

    if not node.get('ann_file') or 'type' not in node or node.get('backend_args'):
        return None
    found = find_type(DATASETS, node['type'], f'{split}_dataloader.dataset', ['CocoDataset'])
    root = node.get('data_root') or ''
    path = os.path.join(root, node['ann_file'])
    if not (isclass(found) and issubclass(found, CocoDataset)) or '://' in path:
        return None
    prefix = (node.get('data_prefix') or {}).get('img')
    classes = (node.get('metainfo') or {}).get('classes', found.METAINFO.get('classes'))
    return {
        'path': path,
        'folder': os.path.join(root, prefix) if isinstance(prefix, str) else None,
        'classes': None if isinstance(classes, str) else classes,
        'masks': any(step.get('with_mask') for step in mappings(node.get('pipeline'))),
        'annotated': split != 'test',
    }
