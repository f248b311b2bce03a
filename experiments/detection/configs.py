"""The config of a run: how it differs from the quickstart's, which all of them inherit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from mmdet_cbn.layers import CenteredConv2d
from mmdet_cbn.layers.names import NORM_LAYERS

from ..common.methods import METHODS
from ..common.standardized_conv import StandardizedConv2d
from .regimes import PHOTOGRAPH_SIZE, REGIMES, WARM_UP_IMAGES, Regime, scheduler

if TYPE_CHECKING:
    from .trials import DetectionRun

PHOTOGRAPH_CLASSES = 80
WARM_UP = 1 / 3  # of the run, for CBN's burn-in and BRN's limits: the quickstart's 1 of 3 epochs
MASK_RCNN = 'configs/quickstart/mask-rcnn_r18_fpn_4conv1fc_bn_shapes.py'
RETINANET = 'configs/_base_/quickstart_retinanet_r18.py'
IMPORTS = ['mmdet_cbn', 'experiments.detection.statistics_hook', 'experiments.detection.exposure']
LOAD = (
    {'type': 'LoadImageFromFile'},
    {'type': 'LoadAnnotations', 'with_bbox': True, 'with_mask': True},
)
PACK = {
    'type': 'PackDetInputs',
    'meta_keys': ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
}
NORMS = {
    nn.BatchNorm2d: {'type': 'BN'},
    nn.GroupNorm: {'type': 'GN', 'num_groups': 32},
    # torch's SyncBN runs on GPUs only; this is the same function, also on CPUs.
    nn.SyncBatchNorm: {'type': 'NaiveCBN', 'window_size': 1, 'sync': True},
    **{layer: {'type': name} for name, layer in NORM_LAYERS.items()},
}
CONVS = {CenteredConv2d: {'type': 'CenConv2d'}, StandardizedConv2d: {'type': 'ConvWS'}}


def layers(run: DetectionRun) -> dict[str, Any]:
    """Return ``norm_cfg`` and, where the method has a convolution of its own, ``conv_cfg``."""
    method = METHODS[run.method]
    norm = {**NORMS[method.norm], **method.arguments}
    if method.has_warm_up:
        norm['warmup_iters'] = round(WARM_UP * run.all_iterations)
    chosen = {'norm_cfg': {'_delete_': True, **norm}}
    return chosen | ({'conv_cfg': CONVS[method.conv]} if method.conv in CONVS else {})


def changes(run: DetectionRun) -> dict[str, Any]:
    """Return what the run's config changes in the quickstart's, but for the places of data and weights."""
    regime, chosen = REGIMES[run.regime], layers(run)
    hooks: list[dict[str, Any]] = [{'type': 'OtherStatisticsHook', 'images': run.held_out}]
    method = METHODS[run.method]
    if method.window_size:
        burn_in = WARM_UP * run.epochs if method.has_burn_in else 0
        size = method.window_size(run.batch_size)
        hooks.append({'type': 'CrossIterationHook', 'burn_in_epochs': burn_in, 'window_size': size})
    rate = run.rate * run.iteration_images
    return {
        'model': {
            'backbone': {'frozen_stages': 4, 'norm_eval': True} if regime.pretrained else chosen,
            'neck': chosen,
            **_heads(regime, chosen),
        },
        'train_dataloader': {'batch_size': run.batch_size},
        'train_cfg': {'max_epochs': run.epochs, 'val_interval': run.epochs},
        'optim_wrapper': {'optimizer': {'_delete_': True, **regime.optimizer, 'lr': rate}},
        'auto_scale_lr': {'enable': False},
        'param_scheduler': [
            {
                'type': 'LinearLR',
                'start_factor': 0.1,
                'by_epoch': False,
                'begin': 0,
                'end': round(WARM_UP_IMAGES / run.iteration_images),
            },
            scheduler(regime, run.all_iterations),
        ],
        'default_hooks': {'checkpoint': None},
        'custom_hooks': hooks,
        'randomness': {'seed': run.seed},
    }


def _heads(regime: Regime, chosen: dict[str, Any]) -> dict[str, Any]:
    if regime.retinanet:
        return {'bbox_head': chosen}
    head = chosen | ({'num_classes': PHOTOGRAPH_CLASSES} if regime.photographs else {})
    return {
        'roi_head': {'bbox_head': head, 'mask_head': head},
        'train_cfg': {'rcnn': {'sampler': {'num': regime.regions}}},
    }


def config_text(run: DetectionRun, root: Path, out: Path) -> str:
    """Return the config of a run.

    Args:
        run: Which one.
        root: The checkout with the folder ``configs``.
        out: The folder of the study, with data and weights.
    """
    changed = changes(run)
    regime = REGIMES[run.regime]
    data = _photographs(out) if regime.photographs else _shapes(run.split, out, regime.varied)
    train, held_out, annotations = data
    changed['train_dataloader'] |= {'dataset': train}
    changed['val_dataloader'] = {'dataset': held_out}
    changed['val_evaluator'] = {'ann_file': str(annotations)}
    if regime.pretrained:
        weights = {
            '_delete_': True,
            'type': 'Pretrained',
            'checkpoint': str(backbone(out)),
            'prefix': 'backbone.',
        }
        changed['model']['backbone'] = changed['model']['backbone'] | {'init_cfg': weights}
    return _text(root / (RETINANET if regime.retinanet else MASK_RCNN), changed)


def _shapes(split: str, out: Path, varied: bool) -> tuple[dict[str, Any], dict[str, Any], Path]:
    """Return what the data sets of training and evaluation change, and the annotations of the latter."""
    held_out = test_data(out) if split == 'test' else other_data(out)
    train, evaluated = ({'data_root': str(folder)} for folder in (test_data(out), held_out))
    if varied:
        load = [*LOAD, {'type': 'VaryExposure'}]
        train['pipeline'] = [*load, {'type': 'RandomFlip', 'prob': 0.5}, PACK]
        evaluated['pipeline'] = [*load, {'type': 'Resize', 'scale_factor': 1.0}, PACK]
    return train, evaluated, held_out / 'annotations' / 'instances_val2017.json'


def _photographs(out: Path) -> tuple[dict[str, Any], dict[str, Any], Path]:
    """Return the same for photographs, which are trained and evaluated on."""
    images = {
        'data_root': str(photographs(out)),
        'ann_file': 'annotations/instances_train2017.json',
        'data_prefix': {'img': 'train2017/'},
        'metainfo': {'_delete_': True},  # COCO's own classes
    }
    load = [*LOAD, {'type': 'Resize', 'scale': PHOTOGRAPH_SIZE, 'keep_ratio': False}]
    train = images | {'pipeline': [*load, {'type': 'RandomFlip', 'prob': 0.5}, PACK]}
    return train, images | {'pipeline': [*load, PACK]}, photographs(out) / images['ann_file']


def pretraining_text(root: Path, out: Path, epochs: int) -> str:
    """Return the config that trains the backbone: BN at 8 images, on images that no run sees."""
    data = str(other_data(out))
    return _text(
        root / MASK_RCNN,
        {
            'train_dataloader': {'batch_size': 4, 'dataset': {'data_root': data}},
            'val_dataloader': {'dataset': {'data_root': data}},
            'val_evaluator': {'ann_file': f'{data}/annotations/instances_val2017.json'},
            'train_cfg': {'max_epochs': epochs, 'val_interval': epochs},
            'auto_scale_lr': {'enable': True},
            'param_scheduler': [
                {'type': 'LinearLR', 'start_factor': 0.1, 'by_epoch': False, 'begin': 0, 'end': 50},
                {
                    'type': 'CosineAnnealingLR',
                    'by_epoch': True,
                    'begin': 0,
                    'end': epochs,
                    'convert_to_iter_based': True,
                },
            ],
            'default_hooks': {'checkpoint': {'interval': epochs, 'save_optimizer': False}},
        },
    )


def test_data(out: Path) -> Path:
    """Return the shapes that detectors are trained and, on the test split, evaluated on."""
    return out / 'data'


def other_data(out: Path) -> Path:
    """Return other shapes: those of the backbone's training, and the validation split."""
    return out / 'other_data'


def photographs(out: Path) -> Path:
    """Return the folder of photographs, in COCO's layout."""
    return out / 'photographs'


def backbone(out: Path) -> Path:
    """Return the checkpoint of the pretrained detector."""
    return out / 'pretrained.pth'


def _text(base: Path, changed: dict[str, Any]) -> str:
    lines = (
        f'_base_ = {str(base)!r}',
        f'custom_imports = dict(imports={IMPORTS!r})',
        *(f'{name} = {value!r}' for name, value in changed.items()),
    )
    return '\n'.join(lines) + '\n'
