"""A small RetinaNet in MMEngine's own training loop, in processes of their own that may be killed.

Nothing is drawn by chance: images come in their order, and RetinaNet assigns every anchor without sampling.
"""

import gc
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import distributed, nn

from mmdet_cbn.layers.local_state import local_state

CBN = {'type': 'CBN', 'window_size': 4}
MABN = {'type': 'MABN', 'buffer_size': 4, 'warmup_iters': 0, 'momentum': 0.1}
BRN = {'type': 'BRN', 'warmup_iters': 15}

_context = multiprocessing.get_context('forkserver')
_context.set_forkserver_preload(
    ['mmdet.models', 'mmdet.datasets', 'mmdet.evaluation', 'mmdet_cbn', 'torch._dynamo']
)


def retinanet(backbone: dict, neck: dict, head: dict) -> ConfigDict:
    """Return its config with one norm for each part; the head runs once for each of two levels."""
    config = {
        'type': 'RetinaNet',
        'data_preprocessor': {'type': 'DetDataPreprocessor', 'mean': [90] * 3, 'std': [60] * 3},
        'backbone': {
            'type': 'ResNet',
            'depth': 18,
            'base_channels': 4,
            'stem_channels': 4,
            'num_stages': 2,
            'strides': (1, 2),
            'dilations': (1, 1),
            'out_indices': (0, 1),
            'norm_cfg': backbone,
            'norm_eval': False,
        },
        'neck': {
            'type': 'FPN',
            'in_channels': [4, 8],
            'out_channels': 8,
            'start_level': 1,
            'num_outs': 2,
            'norm_cfg': neck,
        },
        'bbox_head': {
            'type': 'RetinaHead',
            'num_classes': 2,
            'in_channels': 8,
            'feat_channels': 8,
            'stacked_convs': 1,
            'norm_cfg': head,
            'anchor_generator': {
                'type': 'AnchorGenerator',
                'ratios': [1.0],
                'octave_base_scale': 4,
                'scales_per_octave': 1,
                'strides': [8, 16],
            },
            'bbox_coder': {'type': 'DeltaXYWHBBoxCoder'},
        },
        'train_cfg': {
            'assigner': {'type': 'MaxIoUAssigner', 'pos_iou_thr': 0.5, 'neg_iou_thr': 0.4},
            'sampler': {'type': 'PseudoSampler'},
            'allowed_border': -1,
            'pos_weight': -1,
        },
        'test_cfg': {
            'nms_pre': 50,
            'score_thr': 0.0,
            'nms': {'type': 'nms', 'iou_threshold': 0.5},
            'max_per_img': 5,
        },
    }
    return ConfigDict(config)


def make_runner(images: Path, work_dir: Path, model: dict, hooks: Sequence[dict | Hook], **kwargs) -> Runner:
    pipeline = [
        {'type': 'LoadImageFromFile'},
        {'type': 'LoadAnnotations', 'with_bbox': True},
        {'type': 'PackDetInputs', 'meta_keys': ('img_id', 'img_path', 'ori_shape', 'img_shape')},
    ]
    dataset = {
        'type': 'CocoDataset',
        'ann_file': str(images / 'annotations.json'),
        'data_prefix': {'img': str(images)},
        'metainfo': {'classes': ('first', 'second')},
        'pipeline': pipeline,
    }
    settings = {
        'model': model,
        'work_dir': str(work_dir),
        'train_dataloader': {
            'batch_size': 2,
            'num_workers': 0,
            'sampler': {'type': 'InfiniteSampler', 'shuffle': False},
            'dataset': dataset,
        },
        'train_cfg': {'type': 'IterBasedTrainLoop', 'max_iters': 16, 'val_interval': 1000},
        'optim_wrapper': {'optimizer': {'type': 'SGD', 'lr': 0.02, 'momentum': 0.9}},
        'param_scheduler': [{'type': 'LinearLR', 'start_factor': 0.1, 'by_epoch': False, 'end': 10}],
        'default_hooks': {'checkpoint': {'type': 'CheckpointHook', 'interval': 3, 'by_epoch': False}},
        'custom_hooks': list(hooks),
        'default_scope': 'mmdet',
        'experiment_name': f'{work_dir.name}_{time.monotonic_ns()}',
        'log_level': 'WARNING',
        'randomness': {'seed': 0},
    }
    return Runner(**{**settings, **kwargs})


class LossNotes(Hook):
    """Writes the loss of every iteration down to its last bit, at once, and the time."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        with self.path.open('a') as file:
            file.write(f'{runner.iter} {outputs["loss"].item().hex()} {time.monotonic()}\n')


def start(work: Callable, *arguments: object, processes: int = 1, folder: Path) -> list[BaseProcess]:
    """Start ``work(rank, *arguments)`` in processes, joined by gloo where there are several.

    Args:
        work: A function of a module.
        *arguments: Its arguments behind the rank.
        processes: How many.
        folder: For the file by which they meet.
    """
    store = folder / f'store_{time.monotonic_ns()}'
    started = [
        _context.Process(target=_run, args=(rank, processes, store, work, arguments), daemon=True)
        for rank in range(processes)
    ]
    for process in started:
        process.start()
    return started


def finish(started: list[BaseProcess], limit: float = 60) -> list[int | None]:
    """Wait for the end, by force after ``limit`` seconds, or once one has failed; return exit statuses."""
    end = time.monotonic() + limit
    while any(process.is_alive() for process in started):
        if time.monotonic() > end or any(process.exitcode for process in started):
            for process in started:
                process.kill()
        time.sleep(0.005)
    return [process.exitcode for process in started]


def _run(rank: int, processes: int, store: Path, work: Callable, arguments: tuple) -> None:
    import mmengine.device.utils

    os.environ['CUDA_VISIBLE_DEVICES'] = '-1'
    mmengine.device.utils.DEVICE = 'cpu'
    torch.set_num_threads(1)
    gc.freeze()  # MMEngine collects garbage, and would walk through all that the fork server imported
    if processes > 1:
        os.environ['LOCAL_RANK'] = str(rank)
        distributed.init_process_group('gloo', f'file://{store}', rank=rank, world_size=processes)
    work(rank, *arguments)


def train(
    rank: int,
    images: Path,
    work_dir: Path,
    model: dict,
    hook: dict,
    load_from: str | None = None,
    iterations: int = 16,
) -> None:
    """Train, or resume what can be resumed; leave behind the losses and the state at the end."""
    kwargs = {}
    if distributed.is_initialized():
        kwargs['launcher'] = 'pytorch'
        wrapper = {'type': 'MMDistributedDataParallel', 'broadcast_buffers': False, 'device_ids': None}
        kwargs['cfg'] = Config({'model_wrapper_cfg': wrapper})
    hooks = [hook, LossNotes(work_dir / f'losses_{rank}.txt')]
    loop = {'type': 'IterBasedTrainLoop', 'max_iters': iterations, 'val_interval': 1000}
    runner = make_runner(
        images, work_dir, model, hooks, resume=True, load_from=load_from, train_cfg=loop, **kwargs
    )
    runner.train()
    model = runner.model.module if distributed.is_initialized() else runner.model
    torch.save(remembered(model), work_dir / f'end_{rank}.pt')


def remembered(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return every tensor of the model, and of its windows."""
    windows = {
        f'{name}.window.{key}': value
        for name, norm in local_state(model).items()
        for key, value in (norm['window'] or {}).items()
        if isinstance(value, torch.Tensor)
    }
    return {**model.state_dict(), **windows}
