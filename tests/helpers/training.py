"""Trainings in MMEngine's own loops, in which nothing is drawn by chance: images come in their order."""

import time
from pathlib import Path

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader


def loader(images: Path, batch_size: int = 2, sampler: str = 'DefaultSampler', **options: object) -> dict:
    """Return the loader of images from :func:`~tests.helpers.noise_images.write_images`.

    Args:
        images: Their folder.
        batch_size: As in a config, like the others.
        sampler: ``InfiniteSampler`` for a loop of iterations.
        **options: ``indices`` of the data set, or others of the loader.
    """
    pipeline = [
        {'type': 'LoadImageFromFile'},
        {'type': 'Resize', 'scale': (64, 64)},  # for the scale_factor, by which predictions are scaled back
        {'type': 'LoadAnnotations', 'with_bbox': True},
        {
            'type': 'PackDetInputs',
            'meta_keys': ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
        },
    ]
    dataset = {
        'type': 'CocoDataset',
        'ann_file': str(images / 'annotations.json'),
        'data_prefix': {'img': str(images)},
        'metainfo': {'classes': ('first', 'second')},
        'indices': options.pop('indices', None),
        'pipeline': pipeline,
    }
    return {
        'batch_size': batch_size,
        'num_workers': 0,
        'sampler': {'type': sampler, 'shuffle': False},
        'dataset': dataset,
        **options,
    }


def make_runner(
    work_dir: Path,
    model: dict | nn.Module,
    batches: dict | DataLoader,
    *hooks: Hook | dict,
    epochs: int | None = None,
    iterations: int | None = None,
    **settings: object,
) -> Runner:
    """Return a quiet runner for so many epochs, or else iterations.

    Args:
        work_dir: Where it writes.
        model: Built or to be built, like ``batches``.
        batches: To train on.
        *hooks: Beside the default ones.
        epochs: The length.
        iterations: The length.
        **settings: Those of ``Runner`` that differ from the usual ones.
    """
    by_iterations = {'by_epoch': False, 'max_iters': iterations, 'val_interval': 1000}
    usual = {
        'train_cfg': {'by_epoch': True, 'max_epochs': epochs} if epochs else by_iterations,
        'optim_wrapper': {'optimizer': {'type': 'SGD', 'lr': 0.05}},
        'default_scope': 'mmdet',
        'experiment_name': f'{work_dir.name}_{time.monotonic_ns()}',
        'log_level': 'WARNING',
        'randomness': {'seed': 0},
    }
    return Runner(
        model=model,
        work_dir=str(work_dir),
        train_dataloader=batches,
        custom_hooks=list(hooks),
        **{**usual, **settings},
    )
