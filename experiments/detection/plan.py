"""Which detectors the study of norms trains, and how each config differs from the quickstart's.

All runs share the quickstart's model, data, optimizer and number of epochs. What a method's own config in
``configs/quickstart`` says about its norm stays, apart from what is stated here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..common.methods import METHODS

WARM_UP = 1 / 3  # of the run, for CBN's burn-in and BRN's limits: the quickstart's 1 of 3 epochs
WARM_UP_IMAGES = 200  # of the learning rate: the quickstart's 50 iterations of 4 images
CONFIG = 'configs/quickstart/mask-rcnn_r18_fpn_4conv1fc_{}_shapes.py'
# Methods that the quickstart has no config for take another's.
BORROWED = {
    'sync-bn': 'naive-cbn',
    'gn-ws': 'gn',
    'cbn-window-gradient': 'cbn',
    'cbn-exponential': 'cbn',
    'cbn-exponential-window-gradient': 'cbn',
}
# torch's SyncBN runs on GPUs only; this is the same function, also on CPUs.
SYNC_BN = {'window_size': 1, 'sync': True}


@dataclass(frozen=True)
class DetectionRun:
    """What distinguishes one run from the others; those of one study differ in the first three.

    Args:
        method: A name in ``METHODS``.
        batch_size: Images a process and iteration.
        seed: Of the initial weights, the order of the images and their flips.
        epochs: How long it trains.
        processes: How many train it.
        train_images: In the training set.
        val_images: In the validation set.
    """

    method: str
    batch_size: int
    seed: int
    epochs: int = 3
    processes: int = 2
    train_images: int = 500
    val_images: int = 200

    @property
    def name(self) -> str:
        """What distinguishes it within its study, as one word."""
        return f'{self.method}_batch{self.batch_size}_seed{self.seed}'

    @property
    def iterations(self) -> int:
        """Iterations an epoch."""
        return math.ceil(math.ceil(self.train_images / self.processes) / self.batch_size)

    @property
    def config(self) -> str:
        """The method of the quickstart's config that its own is based on."""
        return BORROWED.get(self.method, self.method)

    @property
    def settings(self) -> dict[str, Any]:
        """All that its result depends on, apart from code and the quickstart's configs."""
        return {**asdict(self), 'config': self.config, **changes(self)}


def plan_runs(
    methods: Sequence[str], batch_sizes: Sequence[int], seeds: int, **shared: int
) -> list[DetectionRun]:
    """Return the runs of a study in their order: all of seed 0 first.

    Args:
        methods: Names in ``METHODS``.
        batch_sizes: Images a process and iteration.
        seeds: Runs of each kind, with seeds from 0.
        shared: What all runs have in common, of the arguments of :class:`DetectionRun`.
    """
    return [
        DetectionRun(method, batch_size, seed, **shared)
        for seed in range(seeds)
        for batch_size in batch_sizes
        for method in methods
    ]


def changes(run: DetectionRun) -> dict[str, Any]:
    """Return what the run's config changes in the quickstart's, but for the place of the data."""
    method, epochs = METHODS[run.method], run.epochs
    norm = dict(SYNC_BN if run.method == 'sync-bn' else method.arguments)
    if method.has_warm_up:
        norm['warmup_iters'] = round(WARM_UP * epochs * run.iterations)
    warm_up = round(WARM_UP_IMAGES / (run.batch_size * run.processes))
    changed: dict[str, Any] = {
        'train_dataloader': {'batch_size': run.batch_size},
        'train_cfg': {'max_epochs': epochs, 'val_interval': epochs},
        'param_scheduler': [
            {'type': 'LinearLR', 'start_factor': 0.1, 'by_epoch': False, 'begin': 0, 'end': warm_up},
            {
                'type': 'CosineAnnealingLR',
                'by_epoch': True,
                'begin': 0,
                'end': epochs,
                'convert_to_iter_based': True,
            },
        ],
        'auto_scale_lr': {'enable': True},
        'default_hooks': {'checkpoint': None},
        'randomness': {'seed': run.seed},
    }
    head = {'norm_cfg': norm} if norm else {}
    if run.method == 'gn-ws':
        head['conv_cfg'] = {'type': 'ConvWS'}
    if head:
        changed['model'] = {
            'backbone': head,
            'neck': head,
            'roi_head': {'bbox_head': head, 'mask_head': head},
        }
    if method.has_window:
        changed['custom_hooks'] = [
            {'type': 'CrossIterationHook', 'burn_in_epochs': WARM_UP * epochs, 'window_size': 'auto'}
        ]
    return changed


def config_text(run: DetectionRun, root: Path, data: Path) -> str:
    """Return the config of a run, based on the quickstart's for its method.

    Args:
        run: Which one.
        root: The checkout with the folder ``configs``.
        data: The folder of the shapes data set.
    """
    base = root / CONFIG.format(run.config)
    changed = changes(run)
    place = {'data_root': str(data)}
    changed['train_dataloader']['dataset'] = place
    changed['val_dataloader'] = {'dataset': place}
    changed['val_evaluator'] = {'ann_file': str(data / 'annotations' / 'instances_val2017.json')}
    lines = [f'_base_ = {str(base)!r}', *(f'{name} = {value!r}' for name, value in changed.items())]
    return '\n'.join(lines) + '\n'
