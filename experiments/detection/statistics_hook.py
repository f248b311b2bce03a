"""Evaluation with other running statistics than the layers' own, behind a training of MMEngine."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mmengine.dataset import pseudo_collate
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader

from mmdet_cbn.whole_file import whole_file

from ..common.running_statistics import SlowStatistics, trained_norms

FILE = 'other_statistics.json'
BATCH = 50  # images, of which the heads see thousands of regions


@HOOKS.register_module()
class OtherStatisticsHook(Hook):
    """Evaluate again with slower running statistics, and with population statistics.

    The file :data:`FILE` of the work folder gets the metrics of the last validation as ``running``, and those
    of the two others as ``slow`` and ``population``.

    Args:
        images: Training images that population statistics are of.
    """

    def __init__(self, images: int) -> None:
        self.images = images

    def before_train_epoch(self, runner: Runner) -> None:
        """Begin to follow the running statistics."""
        if runner.epoch == 0:
            runner.model.train()  # which comes behind this hook
            self.slow = SlowStatistics(_network(runner), runner.cfg.train_dataloader.batch_size)

    def after_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        """Follow an iteration."""
        self.slow.update()

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Keep what came out."""
        self.metrics = metrics

    def after_train(self, runner: Runner) -> None:
        """Evaluate."""
        found = {'running': self.metrics}
        self.slow.put_in_place()
        found['slow'] = runner.val_loop.run()
        runner.model.train()
        dataset = runner.train_dataloader.dataset
        images = range(min(self.images, len(dataset)))
        use_population_statistics(
            _network(runner), DataLoader(dataset, BATCH, sampler=images, collate_fn=pseudo_collate)
        )
        found['population'] = runner.val_loop.run()
        if is_main_process():
            with whole_file(Path(runner.work_dir) / FILE) as partial:
                partial.write_text(json.dumps(found) + '\n')


def use_population_statistics(model: nn.Module, batches: Iterable[Any]) -> None:
    """Replace the running statistics of a detector in training mode by those of batches.

    Frozen layers keep theirs, which ``update_bn`` would take from a whole model.
    """
    update_bn(batches, _TrainedPart(model))


class _TrainedPart(nn.Module):
    """The layers whose statistics move, and the model around them, which is not a submodule."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.norms = nn.ModuleList(trained_norms(model))
        self._around = (model,)

    def forward(self, data: Any) -> None:
        (model,) = self._around
        model(**model.data_preprocessor(data, training=True), mode='loss')


def _network(runner: Runner) -> nn.Module:
    return runner.model.module if is_model_wrapper(runner.model) else runner.model
