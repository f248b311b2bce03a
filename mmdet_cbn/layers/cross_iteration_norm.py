"""What CBN and Naive CBN share: a window of iterations, burn-in, and statistics over all processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn

from ..ops import (
    ExponentialMoments,
    Moments,
    PooledDerivatives,
    PooledMoments,
    all_finite,
    attach_gradient,
    batch_moments,
    joint_moments,
    joint_normalize,
    normalize,
)
from .arguments import check_choice, check_flag, check_integer
from .conv_call import read_weights
from .exponential_window import ExponentialWindow
from .growing_window import GrowingWindow
from .stateful_norm import StatefulNorm
from .window import Window

WINDOWS: dict[str, type[Window] | type[ExponentialWindow]] = {
    'window': Window,
    'exponential': ExponentialWindow,
    'growing': GrowingWindow,
}  # by the values of ``averaging``

# Its type stands here, since torch.jit.script of torch 2.1 cannot read annotations of a class that are text.
_ARGUMENTS: tuple[str, ...] = ('window_size', 'burn_in', 'averaging', 'sync')


@dataclass(frozen=True)
class BatchStatistics:
    """What one iteration measures.

    Attributes:
        moments: Mean and variance that enter window and running statistics.
        positions: Values behind each, shape () where they are of all processes.
        own: Mean and variance of this process.
        part: Share of this process in ``positions``, shape () likewise.
        synchronized: Whether ``moments`` are those of all processes.
        moved: Running statistics after this iteration, where they are known already.
    """

    moments: Moments
    positions: int | Tensor
    own: Moments
    part: float | Tensor
    synchronized: bool
    moved: Moments | None = None


@dataclass(frozen=True)
class WindowGradient:
    """The way of gradients to the weights through the earlier entries of the window.

    Attributes:
        conv: Whose weights.
        derivatives: Of mean and variance by them.
    """

    conv: nn.Conv2d
    derivatives: PooledDerivatives

    def attach(self, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``mean`` and ``var`` as functions of the weights."""
        weight, bias = read_weights(self.conv, mean.dtype)
        return attach_gradient(mean, var, self.derivatives, weight.flatten(1), bias)


@dataclass(frozen=True)
class CrossIterationStatistics:
    """What one call normalizes by.

    Attributes:
        mean: mu_bar, shape (C,).
        var: var_bar, shape (C,).
        share: Weight of the current iteration in both, shape (); None where they are its own, as in BN.
        positions: Values behind the current iteration's, shape () where they are of all processes.
        synchronized: Whether they are.
        window_gradient: Where gradients flow through earlier entries.
    """

    mean: Tensor
    var: Tensor
    share: Tensor | None
    positions: int | Tensor
    synchronized: bool
    window_gradient: WindowGradient | None = None

    def as_batch_norm(self, eps: float) -> dict[str, Tensor]:
        """Return mean and variance: see ``StatefulNorm.statistics_in_use``."""
        return {'mean': self.mean, 'var': self.var}


class CrossIterationNorm(StatefulNorm):
    """Mixin beside torch's ``_BatchNorm``: normalization by the statistics of a window of iterations.

    Attributes:
        window: What is kept of earlier iterations, None before the first one: a :class:`.Window` or an
            :class:`.ExponentialWindow`.
    """

    arguments = _ARGUMENTS

    def __init__(
        self,
        num_features: int,
        eps: float,
        momentum: float | None,
        affine: bool,
        track_running_stats: bool,
        window_size: int,
        burn_in: int,
        averaging: str,
        sync: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype)
        check_integer('window_size', window_size, 1)
        check_integer('burn_in', burn_in, 0)
        check_choice('averaging', averaging, tuple(WINDOWS))
        check_flag('sync', sync)
        self.window_size = window_size
        self.burn_in = burn_in
        self.averaging = averaging
        self.sync = sync
        self.window: Window | ExponentialWindow | None = None

    @property
    def is_pooling(self) -> bool:
        """Whether the next training forward averages over the window; else the layer is BN."""
        return self.window_size > 1 and self.iteration >= self.burn_in

    def window_size_for(self, images: int, calls: int = 1) -> int:
        """Return the ``window_size`` that suits the images in the batch of a process.

        The CBN paper's min(ceil(16 / images), 8), for averages that grow ceil(64 / images) times the calls of
        the layer in an iteration (a head on each level of an FPN).
        """
        return WINDOWS[self.averaging].size_for(images, calls)

    def reset_running_stats(self) -> None:
        """Reset them as BN does, and empty the window.

        ``torch.optim.swa_utils.update_bn`` and its like begin so: they collect statistics of the weights as
        they are now, without gradients, and the window is of earlier ones.
        """
        super().reset_running_stats()
        self.window = None

    def _is_synchronized(self) -> bool:
        return self.sync and distributed.is_initialized() and distributed.get_world_size() > 1

    def _passes_on(self, y: Tensor) -> bool:
        # With sync=True, a process without data still adds its zeros to the sums of the others.
        return y.numel() == 0 and not self._is_synchronized()

    @torch.no_grad()
    def _measure_batch(self, y: Tensor) -> BatchStatistics:
        """Measure mean and variance of ``y``."""
        synchronized = self._is_synchronized()
        if not (self.is_pooling or synchronized):
            self._require_several_values(y)
        positions = y.numel() // y.size(1)
        if synchronized:
            own = batch_moments(y)
            joint = joint_moments(own, positions)
            return BatchStatistics(joint.moments, joint.total, own, joint.part, True)
        own, moved = self._batch_moments(y)
        return BatchStatistics(own, positions, own, 1.0, False, moved)

    def _update_running_statistics(self, batch: BatchStatistics, finite: Tensor | None = None) -> None:
        """Move the running statistics by a batch, whose variance is finite or not."""
        if finite is None:
            finite = all_finite(batch.moments.var)
        self._move_running_statistics(batch.moments, batch.positions, finite, batch.moved)

    def _use_batch(self, batch: BatchStatistics) -> CrossIterationStatistics:
        """Normalize by this iteration alone, and forget earlier ones, whose weights will be far away."""
        if self.window_size > 1:
            self._refuse_capture(batch.moments.mean)
        self.window = None
        self._update_running_statistics(batch)
        share = torch.ones_like(batch.positions) if isinstance(batch.positions, Tensor) else None
        return CrossIterationStatistics(*batch.moments, share, batch.positions, batch.synchronized)

    def _use_window(
        self,
        pooled: PooledMoments | ExponentialMoments,
        batch: BatchStatistics,
        gradient: WindowGradient | None = None,
    ) -> CrossIterationStatistics:
        """Normalize by the average of the window."""
        return CrossIterationStatistics(
            pooled.mean, pooled.var, pooled.share, batch.positions, batch.synchronized, gradient
        )

    def _normalize(self, y: Tensor, used: CrossIterationStatistics) -> Tensor:
        """Compute gamma * (y - mu_bar) / sqrt(var_bar + eps) + beta (eq. 12)."""
        mean, var = used.mean, used.var
        if used.window_gradient is not None:
            mean, var = used.window_gradient.attach(mean, var)
        share, positions = used.share, used.positions
        if share is not None and isinstance(positions, Tensor):  # of all processes
            return joint_normalize(y, self.weight, self.bias, mean, var, self.eps, share, positions)
        return normalize(y, self.weight, self.bias, mean, var, self.eps, share)

    # Any stands for Window or ExponentialWindow: a union does not say that what the methods of one return are
    # arguments of the same one.
    def _fitting_window(self, mean: Tensor, theta: Tensor | None = None, groups: int = 1) -> Any:
        """Return the window, or an empty one where it is of other weights or another size.

        Who adds to it makes it the layer's; a forward pass without gradients leaves the layer's alone.
        """
        kind, size = WINDOWS[self.averaging], self.window_size
        # Its very type: a growing window is an exponential one besides.
        if type(self.window) is kind and self.window.matches(size, mean, theta, groups):
            return self.window
        self._refuse_capture(mean)
        return kind(size, mean, theta, groups)

    def _refuse_capture(self, mean: Tensor) -> None:
        """Raise where a CUDA graph would hold a step of burn-in, or empty its window in each replay."""
        if mean.is_cuda and torch.cuda.is_current_stream_capturing():
            raise RuntimeError(
                f'{type(self).__name__} cannot be captured in a CUDA graph before it uses a window: train '
                f'burn_in + 1 = {self.burn_in + 1} steps first'
            )

    def _apply(self, fn: Any, *args: Any, **kwargs: Any) -> nn.Module:
        """Move the window along with the layer; ``.half()`` and its like leave its type alone."""
        if self.window is not None:
            self.window.apply(lambda tensor: tensor.to(fn(tensor).device))
        moved: nn.Module = super()._apply(fn, *args, **kwargs)
        return moved

    def _expect_other_values(self) -> None:
        super()._expect_other_values()
        self.window = None  # its entries belong to other weights
