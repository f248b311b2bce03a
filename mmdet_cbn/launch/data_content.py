"""Check what is in the COCO data sets of a config, and that the model has as many classes."""

import os
from collections.abc import Iterable, Iterator, Mapping
from inspect import isclass
from typing import Any

from mmengine.fileio import list_from_file
from mmengine.registry import DATASETS
from torch import nn

from .annotations import check_annotations
from .config_walk import mappings
from .errors import LaunchError
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
        datasets = [
            arguments
            for node in mappings(cfg.get(f'{split}_dataloader'))
            if (arguments := _annotations(node, split))
        ]
        metrics = [] if split == 'train' else _coco_metrics(cfg.get(f'{split}_evaluator'))
        classes = datasets[0]['classes'] if datasets else None
        for path, masks in metrics:
            same = [dataset for dataset in datasets if path is None or _same(path, dataset['path'])]
            for dataset in same:
                dataset.update(evaluated=True, masks=dataset['masks'] or masks)
            if not same and path:
                others = {'folder': None, 'annotated': True, 'evaluated': True}
                datasets.append({'path': path, 'classes': classes, 'masks': masks, **others})
        for arguments in datasets:
            if arguments not in checked:
                checked.append(arguments)
                check_annotations(**arguments)
                if arguments['classes']:
                    check_classes(model, arguments['classes'])


def _same(path: str, other: str) -> bool:
    return os.path.normpath(path) == os.path.normpath(other)


def _coco_metrics(evaluator: Any) -> Iterator[tuple[str | None, bool]]:
    """Yield what COCO's evaluation reads: an annotation file, None for the data set's, and whether masks."""
    for node in mappings(evaluator):
        if str(node.get('type')).rpartition('.')[2] == 'CocoMetric' and not node.get('format_only'):
            path = node.get('ann_file')
            if not node.get('backend_args') and '://' not in (path or ''):
                yield path, 'segm' in (node.get('metric') or 'bbox')


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
    coco: Any = found
    classes = (node.get('metainfo') or {}).get('classes', coco.METAINFO.get('classes'))
    return {
        'path': path,
        'folder': os.path.join(root, prefix) if isinstance(prefix, str) else None,
        'classes': _read_classes(classes) if isinstance(classes, str) else classes,
        'masks': any(step.get('with_mask') for step in mappings(node.get('pipeline'))),
        'annotated': split != 'test',
    }


def _read_classes(name: str) -> list[str]:
    """Read the file that MMEngine takes the classes from when they are a text."""
    if not os.path.isfile(name):
        raise LaunchError(
            f'metainfo=dict(classes={name!r}) is a text, and there is no such file of classes; for one class '
            f'write classes=({name!r},), with the comma'
        )
    return list_from_file(name)
