"""Batch normalization by exponential averages in both passes (AvgBN)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from ..ops import (
    ExponentialMoments,
    Moments,
    PooledMoments,
    all_finite,
    averaged_normalize,
    batch_moments,
    store_as,
)
from .cross_iteration_norm import BatchStatistics, CrossIterationStatistics, WindowGradient
from .growing_window import GrowingWindow
from .naive_cross_iteration import NaiveCrossIterationBatchNorm2d


@dataclass(frozen=True)
class GradientAverage:
    """The average that one call's backward pass moves and takes.

    Attributes:
        kept: sum(g) and sum(g * z), averaged over earlier calls from zeros on, and the sum of the weights
            of these, less than 1 after forward passes that no backward pass followed; shape (3, C).
        share: Weight of the call among them, shape ().
    """

    kept: Tensor
    share: Tensor

    def __call__(self, own: Tensor) -> Tensor:
        """Take those of the call in, unless they are not finite, and return the average."""
        entry = torch.stack((*own, torch.ones_like(own[0]))).to(self.kept)
        moved = self.kept.lerp(entry, self.share)
        kept = torch.where(all_finite(own), moved, self.kept, out=self.kept)
        return (kept[:2] / kept[2]).to(own)


@dataclass(frozen=True)
class AveragedStatistics(CrossIterationStatistics):
    """What one call normalizes by in both passes.

    Attributes:
        gradient_average: For the backward pass.
    """

    gradient_average: GradientAverage = field(kw_only=True)


class AveragedBatchNorm2d(NaiveCrossIterationBatchNorm2d, _BatchNorm):  # MMEngine looks at direct bases
    r"""AvgBN: BN whose statistics are exponential averages over iterations in both passes. Ours.

    BN takes four statistics from the batch: mean and variance in the forward pass, and two means in its
    gradient, with z = (y - mean) / sqrt(var + eps) and g = gamma * dL/dout:

    .. math:: dL/dy = (g - \overline{g} - z\, \overline{g z}) / \sqrt{var + eps}

    CBN averages the first two over iterations, and gives the gradient of the batch's share in them, which
    takes 1 / k of the last two out of it. Here all four are exponential averages over earlier iterations and
    this one, whose weight a in iteration t is max(2 / (k + 1), 1 / (1 + (t - 1) / 50)), so that they reach
    back over few iterations of a young training and over k of an old one (:class:`.GrowingWindow`):

    - forward: :math:`\mu \leftarrow \mu + a(\mu_B - \mu)`, and the variance about it likewise, the squared
      distance of the means included;
    - backward: :math:`\Sigma g \leftarrow \Sigma g + a(\Sigma_B g - \Sigma g)` over the positions, and
      :math:`\Sigma g z` likewise; :math:`\overline{g}` and :math:`\overline{g z}` are these by the number of
      positions of the call, which is not the same in each where a head sees the RoIs that there are.

    MABN averages like this behind centred convolutions, where it needs no mean. It differs in a window of m
    equal weights and in its correction r towards the running value. Nothing here needs the convolution in
    front, so no pairing and no other convolution. A :class:`CenteredConv2d` helped on digits; in a
    detector on a frozen backbone that is not told (docs/study.md).
    Online Normalization (Chiley et al., NeurIPS 2019, arXiv 1905.05894) has exponential averages in the
    forward pass, too, and a control process in the backward pass.

    The running statistics average mean and mean of squares likewise, with ``momentum``: the variance of BN's
    leaves out how the means of batches differ, which is part of what normalizes in training here. In eval
    mode and in checkpoints it is BN, and in the first iteration and during burn-in also in training. The
    averages of the backward pass are of the scale of the loss: a dynamic loss scale that jumps is felt for k
    iterations. Unusual inputs: as in :class:`CrossIterationBatchNorm2d`; a gradient that is not finite does
    not enter; a second backward pass through the same call enters once more. Iterations are calls: where one
    layer runs on each level of an FPN, k counts levels, and the averages fit none of them: give each level
    layers of its own (MMDetection's RetinaSepBNHead).

    Args:
        num_features: Channels C of the input (N, C, H, W).
        eps: Added to the variance.
        momentum: Weight of the new observation in the running statistics, in [0, 1]; None for their
            cumulative average. As small as MABN's: with few images in a batch BN's 0.1 averages few of them.
        affine: Whether to learn gamma and beta.
        track_running_stats: As in ``nn.BatchNorm2d``.
        window_size: k, the final span of the averages in iterations, at least 1 (which is BN). In
            docs/study.md k times the images of a batch is 64.
        burn_in: Number of first training forwards that are BN.
        device: Of parameters and buffers.
        dtype: Of parameters and buffers.

    Raises:
        ValueError: An argument is out of its range; the input is not 4D; there is one value per channel
            during burn-in.

    Example:
        >>> norm = AveragedBatchNorm2d(8, window_size=32)
        >>> norm(torch.randn(2, 8, 5, 5)).shape
        torch.Size([2, 8, 5, 5])
    """

    arguments = ('window_size', 'burn_in')

    if TYPE_CHECKING:
        window: GrowingWindow | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.02,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        window_size: int = 32,
        burn_in: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            num_features,
            eps,
            momentum,
            affine,
            track_running_stats,
            window_size=window_size,
            burn_in=burn_in,
            averaging='growing',
            device=device,
            dtype=dtype,
        )

    def _batch_moments(self, x: Tensor, running: Moments | None = None) -> tuple[Moments, Moments | None]:
        return batch_moments(x), None  # BN's kernel moves the running statistics otherwise

    def _moved_running_statistics(self, batch: Moments, positions: int | Tensor) -> Moments:
        """Average mean and mean of squares, as training does: BN leaves the spread of the means out."""
        mean, var = (values.to(batch.mean.dtype) for values in self._finite_running_statistics())
        momentum = self._momentum(batch.mean.dtype)
        spread = momentum * (1 - momentum) * (batch.mean - mean).square()
        moved = mean.lerp(batch.mean, momentum), var.lerp(batch.var, momentum) + spread
        kept_mean, kept_var, _ = self._running_buffers()
        return Moments(store_as(moved[0], kept_mean.dtype), store_as(moved[1], kept_var.dtype))

    def _use_window(
        self,
        pooled: PooledMoments | ExponentialMoments,
        batch: BatchStatistics,
        gradient: WindowGradient | None = None,
    ) -> AveragedStatistics:
        assert self.window is not None
        average = GradientAverage(self.window.gradients, pooled.share)
        return AveragedStatistics(
            pooled.mean,
            pooled.var,
            pooled.share,
            batch.positions,
            batch.synchronized,
            gradient_average=average,
        )

    def _normalize(self, y: Tensor, used: CrossIterationStatistics) -> Tensor:
        if not isinstance(used, AveragedStatistics):  # burn-in
            return super()._normalize(y, used)
        average = used.gradient_average
        return averaged_normalize(y, self.weight, self.bias, used.mean, used.var, self.eps, average)
