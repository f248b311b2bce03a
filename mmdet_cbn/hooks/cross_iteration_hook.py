"""Pairing, burn-in in epochs and log values of cross-iteration layers."""

import math
import sys
from collections.abc import Callable
from typing import Any

import torch
from mmengine.dataset import InfiniteSampler
from mmengine.hooks import Hook, LoggerHook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn

from ..layers import CrossIterationNorm, end_step, pair_conv_norm
from ..layers.arguments import check_flag, check_integer, check_number
from .norm_state_files import load_beside_checkpoint, save_beside_checkpoints


@HOOKS.register_module()
class CrossIterationHook(Hook):
    """Prepares a model's cross-iteration layers for training and logs what they do.

    Before the run it pairs each CBN layer with its convolution; after each step of the optimizer
    (``accumulative_counts``) it empties the windows of CmBN layers. With the loss it logs, averaged over the
    CBN layers: ``cbn_fill`` (entries in the window; of an exponential one their effective number, which tends
    to k), ``cbn_clamped`` (share of channels whose extrapolated variance was below 0; there, that of the
    average) and ``cbn_compensation`` (size of the correction in standard deviations).

    Args:
        burn_in_epochs: Epochs with window size 1, fractions allowed; None leaves each layer's ``burn_in``.
            A layer that runs several times an iteration (a head shared by FPN levels) counts it in
            iterations all the same.
        window_size: For all layers; 'auto' is the CBN paper's min(ceil(16 / N), 8) for the N images in the
            batch of a process, ceil(64 / N) for averages that grow (AvgBN), times the calls of a
            layer in an iteration; None leaves each layer's ``window_size``.
        save_window: Keep what the norm layers of each process remember beside every checkpoint, in files
            ``<checkpoint>.norms_rank<r>_of_<n>.pt``, so that a resumed run goes on bit for bit: the windows
            (each k - 1 times the weights of its convolution) and the buffers, of which a checkpoint has those
            of process 0. Without it, windows refill within k iterations after a resume, and spans that grow
            begin to do so anew.

    Raises:
        ValueError: An argument is out of its range, or the config has ``sync_bn``.
    """

    priority = 'VERY_HIGH'

    def __init__(
        self,
        burn_in_epochs: float | None = None,
        window_size: int | str | None = None,
        save_window: bool = False,
    ) -> None:
        if burn_in_epochs is not None:
            check_number('burn_in_epochs', burn_in_epochs, 0)
        if window_size not in (None, 'auto'):
            check_integer('window_size', window_size, 1)
        check_flag('save_window', save_window)
        self.burn_in_epochs = burn_in_epochs
        self.window_size = window_size
        self.save_window = save_window

    def before_run(self, runner: Runner) -> None:
        """Pair the model before ``EMAHook`` copies it, which it does here at a lower priority."""
        if runner.cfg.get('sync_bn'):
            raise ValueError(
                f'sync_bn={runner.cfg.sync_bn!r} makes MMEngine replace every batch norm by SyncBatchNorm, '
                'the layers of mmdet_cbn included; remove it. What synchronizes CBN is '
                "norm_cfg=dict(type='CBN', sync=True)"
            )
        self.pairs = pair_conv_norm(_unwrap(runner.model))
        runner.logger.info(f'CrossIterationHook: paired {len(self.pairs)} CBN layers with their convolutions')

    def before_train(self, runner: Runner) -> None:
        """Set window size and burn-in, after a checkpoint to resume from was loaded."""
        layers = self._layers(runner)
        if not layers and not self.save_window:
            runner.logger.warning('CrossIterationHook: the model has no CBN, NaiveCBN, CmBN or AvgBN layer')
        for layer in layers:
            if isinstance(self.window_size, int):
                layer.window_size = self.window_size
        self.first_iteration = runner.iter
        self._count_in_calls(runner, runner.iter)  # before windows are loaded, which have to be of this size
        if runner.iter == 0:
            # Not a resumed run: a model fine-tuned from a CBN checkpoint starts its burn-in anew.
            for layer in layers:
                layer.restart()
        elif self.save_window:
            load_beside_checkpoint(runner, _unwrap(runner.model))
        elif layers:
            runner.logger.info('CrossIterationHook: the windows refill after this resume (save_window=False)')
        if self.save_window:
            save_beside_checkpoints(runner, _unwrap(runner.model))

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | tuple | list | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Let CmBN begin a step, and log the state of the windows as often as the loss."""
        if _has_stepped(runner.optim_wrapper):
            end_step(_unwrap(runner.model))
        if runner.iter == self.first_iteration:
            self._count_in_calls(runner, runner.iter + 1)
        intervals = [hook.interval for hook in runner.hooks if isinstance(hook, LoggerHook)]
        if any(self.every_n_inner_iters(batch_idx, interval) for interval in intervals):
            for name, value in self._diagnose(runner).items():
                runner.message_hub.update_scalar(f'train/cbn_{name}', value)

    def _layers(self, runner: Runner) -> list[CrossIterationNorm]:
        return [m for m in _unwrap(runner.model).modules() if isinstance(m, CrossIterationNorm)]

    def _count_in_calls(self, runner: Runner, iterations: int) -> None:
        """Set burn-in and automatic window size, which mean iterations, in the calls that each layer counts.

        How many calls make an iteration is seen from the ``iterations`` so far.
        """
        for layer in self._layers(runner):
            calls = max(round(layer.iteration / iterations), 1) if iterations else None
            if self.window_size == 'auto':
                layer.window_size = layer.window_size_for(_batch_size(runner), calls or 1)
            if self.burn_in_epochs is not None:
                burn_in = round(self.burn_in_epochs * _epoch_length(runner))
                # Before the first iteration there is nothing to count, and all of it is burn-in.
                layer.burn_in = burn_in * (calls or sys.maxsize)

    def _diagnose(self, runner: Runner) -> dict[str, torch.Tensor]:
        part: Callable[[str], Any] = _unwrap(runner.model).get_submodule
        reports = [part(norm).diagnose(part(conv)) for norm, conv in self.pairs.items()]
        reports = [report for report in reports if report is not None]
        return {
            name: torch.stack([report[name].float() for report in reports]).mean()
            for name in (reports[0] if reports else ())
        }


def _batch_size(runner: Runner) -> int:
    """Return the images in a batch; the loader's own ``batch_size`` is None where it has a batch sampler."""
    size: int = runner.train_dataloader.batch_sampler.batch_size
    return size


def _epoch_length(runner: Runner) -> int:
    """Return the iterations of an epoch; MMEngine's InfiniteSampler counts those of all processes."""
    loader = runner.train_dataloader
    processes = runner.world_size if isinstance(loader.batch_sampler.sampler, InfiniteSampler) else 1
    return math.ceil(len(loader) / processes)


def _has_stepped(wrapper: OptimWrapper | OptimWrapperDict) -> bool:
    """Tell whether this iteration was the last micro-batch of a step."""
    wrappers = wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]
    return any(one.should_update() for one in wrappers)


def _unwrap(model: Any) -> nn.Module:
    unwrapped: nn.Module = model.module if is_model_wrapper(model) else model
    return unwrapped
