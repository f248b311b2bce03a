"""Moving Average Batch Normalization (MABN)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from ..ops import all_finite, mean_of_squares, moving_average_normalize, statistics_dtype, store_as
from .arguments import check_choice, check_integer, check_number
from .stateful_norm import StatefulNorm


@dataclass(frozen=True)
class MovingAverageStatistics:
    """What one call normalizes by, each of shape (C,).

    Attributes:
        zeros: The mean that normalization by given statistics asks for.
        shifted: Mean of squares in use plus eps.
        r: Correction towards the running value.
        psi: What takes the place of Psi_B in the backward pass.
    """

    zeros: Tensor
    shifted: Tensor
    r: Tensor
    psi: BackwardStatistics

    def as_batch_norm(self, eps: float) -> dict[str, Tensor]:
        """Return chi2 with the correction in it, and psi once it is known: see ``StatefulNorm``."""
        used = {'chi2': self.shifted / self.r.square() - eps}
        return used if self.psi.used is None else used | {'psi': self.psi.used}


class MovingAverageBatchNorm2d(StatefulNorm, _BatchNorm):
    r"""Moving Average Batch Normalization (Yan et al., ICLR 2020).

    Normalizes with the mean of squares alone and replaces the batch statistics of the forward and of the
    backward pass by moving averages. With t the training calls from 1 (a head shared by
    FPN levels has several an iteration), m the buffer size:

    - :math:`\chi^2_B` is the mean of x^2 per channel, :math:`\bar\chi^2` its simple moving average over
      the last m iterations (itself while t <= m or t < warmup_iters),
    - r = clip(sqrt(chi2_bar + eps) / sqrt(chi2_hat + eps), 1 / r_max, r_max), with chi2_hat the running value
      before this step; 1 while t <= max(1000, warmup_iters),
    - out = gamma * r * x / sqrt(chi2_bar + eps) + beta (eq. 19), and the backward pass with the same average
      of Psi_B (eq. 20),
    - chi2_hat <- (1 - momentum) * chi2_hat + momentum * chi2_bar.

    The paper's text averages the chi2 of the batch in chi2_hat; the authors' released layer, which made
    their tables, averages the value in use. This one follows the layer.

    It belongs behind a :class:`CenteredConv2d`: nothing here subtracts a mean. In eval mode it is an affine
    map with ``running_mean`` 0 and ``running_var`` chi2_hat.

    Unusual inputs: an empty batch passes through and changes nothing. A non-finite chi2_B changes nothing,
    nor does a non-finite Psi_B enter the average. A training-mode forward under ``torch.no_grad`` uses the
    averages and changes nothing, since what it changed would alter the next training output; with
    ``momentum=None``, as in ``torch.optim.swa_utils.update_bn``, it normalizes by the batch and collects the
    population's chi2. Psi_B scales with the loss: a dynamic loss scale that jumps is felt for m iterations.

    The paper's ablations put other statistics in the place of these two, each from the same iteration on:
    ``forward_statistics='sma'`` leaves chi2_hat out (r = 1), ``'batch'`` takes chi2_B for chi2_bar as well;
    ``backward_statistics='batch'`` takes Psi_B as it is, ``'ema'`` its exponential average
    :math:`\hat\Psi \leftarrow \hat\Psi + \max(1/t, momentum)(\Psi_B - \hat\Psi)`, which begins as the mean of
    all. ``'batch'`` in both is the derivative of normalization by the mean of squares. Uncentred filters are
    an ``nn.Conv2d`` in front.

    Args:
        num_features: Channels C of the input (N, C, H, W).
        eps: Added to the mean of squares.
        momentum: Weight of the new observation in ``running_var``, in [0, 1]; the paper's alpha = 0.98 is
            0.02.
        affine: Whether to learn gamma and beta.
        track_running_stats: Must be True: the running value is part of the formula.
        buffer_size: m, at least 1.
        warmup_iters: Number of first iterations with batch statistics.
        r_max: Bound of r, at least 1.
        forward_statistics: What the forward pass normalizes by: 'ema' (eq. 19), 'sma' or 'batch'.
        backward_statistics: What stands for Psi_B in the backward pass: 'sma' (eq. 20), 'ema' or 'batch'.
        device: Of parameters and buffers.
        dtype: Of parameters and buffers.

    Raises:
        ValueError: An argument is out of its range; the input is not 4D.

    Example:
        >>> block = nn.Sequential(CenteredConv2d(3, 8, 3, bias=False), MovingAverageBatchNorm2d(8))
        >>> block(torch.randn(2, 3, 16, 16)).shape
        torch.Size([2, 8, 14, 14])
    """

    if TYPE_CHECKING:  # torch.jit.script would read annotations of the class, and not understand them as text
        running_mean: Tensor
        running_var: Tensor
        num_batches_tracked: Tensor
        chi2_buffer: Tensor
        psi_buffer: Tensor
        psi_hat: Tensor

    arguments = ('buffer_size', 'warmup_iters', 'r_max', 'forward_statistics', 'backward_statistics')

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.02,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        buffer_size: int = 16,
        warmup_iters: int = 100,
        r_max: float = 5.0,
        forward_statistics: str = 'ema',
        backward_statistics: str = 'sma',
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype)
        self._require_running_statistics()
        check_integer('buffer_size', buffer_size, 1)
        check_integer('warmup_iters', warmup_iters, 0)
        check_number('r_max', r_max, 1)
        self.buffer_size = buffer_size
        self.warmup_iters = warmup_iters
        self.r_max = r_max
        check_choice('forward_statistics', forward_statistics, ('ema', 'sma', 'batch'))
        check_choice('backward_statistics', backward_statistics, ('sma', 'ema', 'batch'))
        self.forward_statistics = forward_statistics
        self.backward_statistics = backward_statistics
        buffers: dict[str, tuple[int, ...]] = {}
        if forward_statistics != 'batch':
            buffers['chi2_buffer'] = (buffer_size, num_features)
        if backward_statistics == 'sma':
            buffers['psi_buffer'] = (buffer_size, num_features)
        elif backward_statistics == 'ema':
            buffers['psi_hat'] = (num_features,)
        for name, shape in buffers.items():
            self.register_buffer(name, torch.zeros(shape, device=device, dtype=dtype))
        self.memory = ('iterations', *buffers)
        # Whether all of the above is in use, which each call would ask the device for.
        self._settled = False

    def train_forward(self, x: Tensor) -> Tensor:
        """Normalize ``x`` (N, C, H, W) by the averages."""
        if x.numel() == 0:
            return self._empty_output(x)
        used = self._repetition.first_pass(x, self._measure)
        out = moving_average_normalize(
            x, self.weight, self.bias, used.zeros, used.shifted, used.r, used.psi.average
        )  # eq. 19, and eq. 20 in the backward pass
        self._repetition.remember(out, used)
        return out

    def _measure(self, x: Tensor) -> MovingAverageStatistics:
        """Take the batch into the averages; return what is in use."""
        self._require_running_statistics()
        with torch.no_grad():
            zeros = x.new_zeros(x.size(1), dtype=statistics_dtype(x))
            chi2_batch = mean_of_squares(x, zeros)
            entered = all_finite(chi2_batch)
            if self._collects():
                return self._collect(chi2_batch, zeros, entered)
            stage = self._stage()
            chi2, chi2_rows = self._average(chi2_batch, stage)
            shifted, chi2_hat = chi2 + self.eps, self.running_var.to(chi2).nan_to_num(1, 1, 1)
            if not stage.settled:
                # E[x^2] = var + mean^2: a checkpoint of BN brings a mean along, which is 0 from here on.
                chi2_hat = chi2_hat + self.running_mean.to(chi2).nan_to_num(0, 0, 0).square()
            r = self._correct(shifted, chi2_hat, stage)
        if torch.is_grad_enabled():
            self._remember(chi2_rows, chi2, chi2_hat, entered, stage)
        return MovingAverageStatistics(zeros, shifted, r, BackwardStatistics(self, stage, entered))

    def _collect(self, chi2: Tensor, zeros: Tensor, entered: Tensor) -> MovingAverageStatistics:
        """Take the batch into the mean over all, and normalize by it alone."""
        self.num_batches_tracked.add_(entered)
        moved = self.running_var.to(chi2).lerp(chi2, self._momentum(chi2.dtype))
        torch.where(entered, store_as(moved, self.running_var.dtype), self.running_var, out=self.running_var)
        psi = BackwardStatistics(self, self._stage(), entered)
        return MovingAverageStatistics(zeros, chi2 + self.eps, torch.ones_like(chi2), psi)

    def _stage(self) -> Stage:
        """Tell which averages are in use; in the first iterations the device knows."""
        t = self.iterations + 1
        row = (t % self.buffer_size).reshape(1)
        if self._settled:
            return Stage(t, row, None, None)
        last = max(1000, self.warmup_iters, self.buffer_size)
        if self.iteration >= last:
            # Iterations that were not finite do not count: let the next look at the counter read the buffer,
            # here and once more for each of those. This call is the last one that takes a mean in.
            self._iteration = None
            self._settled = self.iteration >= last
        averaging = (t > self.buffer_size) & (t >= self.warmup_iters)
        return Stage(t, row, averaging, t > max(1000, self.warmup_iters))

    def _average(self, chi2: Tensor, stage: Stage) -> tuple[Tensor, Tensor | None]:
        """Return chi2_bar, and the buffer with ``chi2`` in it."""
        if self.forward_statistics == 'batch':
            return chi2, None
        rows = self.chi2_buffer.index_copy(0, stage.row, store_as(chi2, self.chi2_buffer.dtype)[None])
        average = rows.mean(0).to(chi2)
        return average if stage.averaging is None else torch.where(stage.averaging, average, chi2), rows

    def _correct(self, shifted: Tensor, chi2_hat: Tensor, stage: Stage) -> Tensor:
        """Return r."""
        if self.forward_statistics != 'ema':
            return torch.ones_like(shifted)
        ratio = (shifted / (chi2_hat + self.eps)).sqrt().clamp(1 / self.r_max, self.r_max)
        return ratio if stage.correcting is None else torch.where(stage.correcting, ratio, 1)

    @torch.no_grad()
    def _remember(
        self, chi2_rows: Tensor | None, chi2: Tensor, chi2_hat: Tensor, entered: Tensor, stage: Stage
    ) -> None:
        if chi2_rows is not None:
            torch.where(entered, chi2_rows, self.chi2_buffer, out=self.chi2_buffer)
        moved = store_as(chi2_hat.lerp(chi2, self._momentum(chi2.dtype)), self.running_var.dtype)
        torch.where(entered, moved, self.running_var, out=self.running_var)
        if not stage.settled:
            self.running_mean.masked_fill_(entered, 0)
        self.num_batches_tracked.add_(entered)
        self._count(entered)

    def _expect_other_values(self) -> None:
        super()._expect_other_values()
        self._settled = False


@dataclass(frozen=True)
class Stage:
    """Where a call stands in the first iterations of its layer.

    Attributes:
        t: Its number, from 1, shape ().
        row: Of the buffers that it writes, shape (1,).
        averaging: Whether the averages are in use, shape (); None once all is.
        correcting: Whether r is.
    """

    t: Tensor
    row: Tensor
    averaging: Tensor | None
    correcting: Tensor | None

    @property
    def settled(self) -> bool:
        """Whether the first iterations are over."""
        return self.averaging is None


class BackwardStatistics:
    """What takes the place of Psi_B in the backward pass of one call.

    Args:
        layer: Whose average it is.
        stage: Where the call stands.
        entered: Whether the call has entered the layer's memory, shape ().

    Attributes:
        used: What was in use, shape (C,); None before the backward pass.
    """

    def __init__(self, layer: MovingAverageBatchNorm2d, stage: Stage, entered: Tensor) -> None:
        self._layer = layer
        self._stage = stage
        self._entered = entered
        self.used: Tensor | None = None

    def average(self, psi: Tensor) -> Tensor:
        """Take Psi_B, shape (C,), into the layer's average and return what is in use."""
        self.used = psi
        if self._layer.backward_statistics != 'batch':
            average = self._simple if self._layer.backward_statistics == 'sma' else self._exponential
            averaged = average(psi, self._entered & all_finite(psi)).to(psi)
            starting = self._stage.averaging
            self.used = averaged if starting is None else torch.where(starting, averaged, psi)
        return self.used

    def _simple(self, psi: Tensor, enters: Tensor) -> Tensor:
        buffer = self._layer.psi_buffer
        rows = buffer.index_copy(0, self._stage.row, store_as(psi, buffer.dtype)[None])
        return torch.where(enters, rows, buffer, out=buffer).mean(0)

    def _exponential(self, psi: Tensor, enters: Tensor) -> Tensor:
        kept = self._layer.psi_hat
        weight = self._stage.t.to(kept).reciprocal().clamp(min=self._layer.momentum)
        return torch.where(enters, kept.lerp(store_as(psi, kept.dtype), weight), kept, out=kept)
