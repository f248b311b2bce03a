"""A RetinaNet that saves every third iteration, and goes on where another training ended."""

import time
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import distributed

from tests.helpers import training
from tests.helpers.detectors import retinanet
from tests.helpers.snapshot import memory

CBN = {'type': 'CBN', 'window_size': 4}
MABN = {'type': 'MABN', 'buffer_size': 4, 'warmup_iters': 0, 'momentum': 0.1}
BRN = {'type': 'BRN', 'warmup_iters': 15}
MIXED = retinanet(CBN, MABN, BRN)


def make_runner(
    images: Path,
    work_dir: Path,
    model: dict,
    *hooks: dict | Hook,
    epochs: int | None = None,
    iterations: int | None = None,
    **settings: object,
) -> Runner:
    """Return a runner for so many epochs of two iterations, or else for so many iterations."""
    if epochs:
        batches = training.loader(images, indices=4)
    else:
        batches = training.loader(images, sampler='InfiniteSampler')
    usual = {
        'optim_wrapper': {'optimizer': {'type': 'SGD', 'lr': 0.02, 'momentum': 0.9}},
        'param_scheduler': [{'type': 'LinearLR', 'start_factor': 0.1, 'by_epoch': False, 'end': 10}],
        'default_hooks': {'checkpoint': {'type': 'CheckpointHook', 'interval': 3, 'by_epoch': False}},
    }
    return training.make_runner(
        work_dir, model, batches, *hooks, epochs=epochs, iterations=iterations, **{**usual, **settings}
    )


class LossNotes(Hook):
    """Writes the loss of every iteration down to its last bit, at once, and the time."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        with self.path.open('a') as file:
            file.write(f'{runner.iter} {outputs["loss"].item().hex()} {time.monotonic()}\n')


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
    settings = {}
    if distributed.is_initialized():
        settings['launcher'] = 'pytorch'
        wrapper = {'type': 'MMDistributedDataParallel', 'broadcast_buffers': False, 'device_ids': None}
        settings['cfg'] = Config({'model_wrapper_cfg': wrapper})
    hooks = [hook, LossNotes(work_dir / f'losses_{rank}.txt')]
    runner = make_runner(
        images,
        work_dir,
        model,
        *hooks,
        iterations=iterations,
        resume=True,
        load_from=load_from,
        **settings,
    )
    runner.train()
    model = runner.model.module if distributed.is_initialized() else runner.model
    torch.save(dict(model.named_parameters()) | memory(model), work_dir / f'end_{rank}.pt')
