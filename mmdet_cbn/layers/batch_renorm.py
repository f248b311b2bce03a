"""Batch Renormalization (BRN), the baseline of both papers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from ..ops import Moments, all_finite, renormalize, statistics_dtype
from .arguments import check_integer, check_number
from .stateful_norm import StatefulNorm


@dataclass(frozen=True)
class RenormalizedStatistics:
    """What one call normalizes by, each of shape (C,).

    Attributes:
        mean: Of the batch.
        var: Of the batch, biased.
        std: sqrt(var + eps).
        r: Correction of the scale.
        drift: -d, the correction of the offset.
    """

    mean: Tensor
    var: Tensor
    std: Tensor
    r: Tensor
    drift: Tensor

    def as_batch_norm(self, eps: float) -> dict[str, Tensor]:
        """Return mean and variance with the corrections in them: see ``StatefulNorm.statistics_in_use``."""
        std = self.std / self.r
        return {'mean': self.mean + self.drift * std, 'var': std.square() - eps}


class BatchRenorm2d(StatefulNorm, _BatchNorm):
    r"""Batch Renormalization (Ioffe, NeurIPS 2017, arXiv 1702.03275).

    Corrects the batch statistics towards the running ones, by constants in the backward pass:

    .. math::
        r = clip(\sigma_B / \hat\sigma, 1 / r_{max}, r_{max}), \quad
        d = clip((\mu_B - \hat\mu) / \hat\sigma, -d_{max}, d_{max}), \quad
        out = \gamma (r \frac{x - \mu_B}{\sigma_B} + d) + \beta

    with sigma = sqrt(var + eps). The bounds ramp linearly from (1, 0), which is BN, to (r_max, d_max) over
    ``warmup_iters`` iterations. Running statistics are BN's, taken before this step's update; in eval mode
    the layer is BN.

    Unusual inputs: an empty batch passes through and changes nothing, non-finite statistics do not enter
    the running ones. A training-mode forward under ``torch.no_grad`` changes nothing, since what it changed
    would alter the next training output; with ``momentum=None``, as in ``torch.optim.swa_utils.update_bn``,
    it is BN's, and collects population statistics.

    Args:
        num_features: Channels C of the input (N, C, H, W).
        eps: Added to the variance.
        momentum: Weight of the new observation in the running statistics, in [0, 1].
        affine: Whether to learn gamma and beta.
        track_running_stats: Must be True: the running statistics are part of the formula.
        r_max: Final bound of r, at least 1.
        d_max: Final bound of d, at least 0.
        warmup_iters: Iterations until the bounds are reached, 0 for at once.
        device: Of parameters and buffers.
        dtype: Of parameters and buffers.

    Raises:
        ValueError: An argument is out of its range; the input is not 4D; there is one value per channel.

    Example:
        >>> norm = BatchRenorm2d(8, warmup_iters=100)
        >>> norm(torch.randn(2, 8, 5, 5)).shape
        torch.Size([2, 8, 5, 5])
    """

    arguments = ('r_max', 'd_max', 'warmup_iters')

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        r_max: float = 3.0,
        d_max: float = 5.0,
        warmup_iters: int = 5000,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype)
        self._require_running_statistics()
        check_number('r_max', r_max, 1)
        check_number('d_max', d_max, 0)
        check_integer('warmup_iters', warmup_iters, 0)
        self.r_max = r_max
        self.d_max = d_max
        self.warmup_iters = warmup_iters

    def train_forward(self, x: Tensor) -> Tensor:
        """Normalize ``x`` (N, C, H, W) by its own statistics, corrected towards the running ones."""
        if x.numel() == 0:
            return self._empty_output(x)
        used = self._repetition.first_pass(x, self._measure)
        statistics = used.mean, used.var, used.std, used.r, used.drift
        out = renormalize(x, self.weight, self.bias, *statistics, self.eps)
        self._repetition.remember(out, used)
        return out

    def _measure(self, x: Tensor) -> RenormalizedStatistics:
        """Measure the batch and its corrections, and move the running statistics."""
        self._require_running_statistics()
        self._require_several_values(x)
        with torch.no_grad():
            dtype = statistics_dtype(x)
            running = self._finite_running_statistics()
            # Before the batch is measured, which moves them.
            invstd_hat = (running.var.to(dtype) + self.eps).rsqrt()
            ratio_hat = running.mean.to(dtype) * invstd_hat
            (mean, var), moved = self._batch_moments(x, running)
            finite, positions = all_finite(var), x.numel() // x.size(1)
            std = (var + self.eps).sqrt()
            if self._collects():
                self._move_running_statistics(Moments(mean, var), positions, finite, moved)
                return RenormalizedStatistics(mean, var, std, torch.ones_like(std), torch.zeros_like(std))
            progress = self._progress(dtype)
            r_limit: Any = 1 + (self.r_max - 1) * progress  # clamp takes a tensor or a number, but no union
            d_limit: Any = self.d_max * progress
            r = (std * invstd_hat).clamp(1 / r_limit, r_limit)
            drift = torch.addcmul(ratio_hat, mean, invstd_hat, value=-1).clamp(-d_limit, d_limit)
        if torch.is_grad_enabled():
            self._move_running_statistics(Moments(mean, var), positions, finite, moved)
            self._count()
        return RenormalizedStatistics(mean, var, std, r, drift)

    def _progress(self, dtype: torch.dtype) -> Tensor | float:
        """Return how much of the warm-up is done, from 0 to 1, shape (): a number once it is over."""
        if self.iteration >= self.warmup_iters:
            return 1.0
        return (self.iterations.to(dtype) / self.warmup_iters).clamp(max=1)
