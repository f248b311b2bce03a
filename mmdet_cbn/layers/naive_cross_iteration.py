"""Naive CBN: the average over the window without compensation."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from .cross_iteration_norm import CrossIterationNorm, CrossIterationStatistics


class NaiveCrossIterationBatchNorm2d(CrossIterationNorm, _BatchNorm):
    r"""Naive CBN: batch statistics averaged over the last k iterations, as they were measured.

    The baseline of the CBN paper (arXiv 2002.05712, section 4): CBN without compensation for the change
    of the weights. It needs no convolution and no pairing. Shapes and the treatment of unusual inputs are
    those of :class:`CrossIterationBatchNorm2d`.

    Args:
        num_features: Channels C of the input (N, C, H, W).
        eps: Added to the variance.
        momentum: Weight of the new observation in the running statistics, in [0, 1]; None for their
            cumulative average.
        affine: Whether to learn gamma and beta.
        track_running_stats: As in ``nn.BatchNorm2d``.
        window_size: k, the current iteration included, at least 1 (which is BN).
        averaging: 'window', 'exponential' or 'growing'.
        burn_in: Number of first training forwards with k = 1.
        sync: Take statistics and their gradients over the processes of torch's default group.
        device: Of parameters and buffers.
        dtype: Of parameters and buffers.

    Raises:
        ValueError: An argument is out of its range; the input is not 4D; there is one value per channel
            during burn-in.

    Example:
        >>> norm = NaiveCrossIterationBatchNorm2d(8, window_size=4)
        >>> norm(torch.randn(2, 8, 5, 5)).shape
        torch.Size([2, 8, 5, 5])
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        window_size: int = 4,
        burn_in: int = 0,
        averaging: str = 'window',
        sync: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            num_features,
            eps,
            momentum,
            affine,
            track_running_stats,
            window_size,
            burn_in,
            averaging,
            sync,
            device,
            dtype,
        )

    def train_forward(self, y: Tensor) -> Tensor:
        """Normalize ``y`` (N, C, H, W) by the window."""
        if self._passes_on(y):
            return self._empty_output(y)
        used = self._repetition.first_pass(y, self._measure)
        out = self._normalize(y, used)
        self._repetition.remember(out, used)
        return out

    def _measure(self, y: Tensor) -> CrossIterationStatistics:
        """Average over the window (eq. 9 to 11), and take the batch into it."""
        remember = torch.is_grad_enabled()
        pooling = self.is_pooling and (remember or self.window is not None)
        batch = self._measure_batch(y)
        if remember:
            self._count()
        if not pooling:
            return self._use_batch(batch)
        finite = None
        with torch.no_grad():
            window = self._fitting_window(batch.moments.mean)
            pooled = window.average(batch.moments, window.statistics())
            if remember:
                finite = window.push(pooled)
                self.window = window
        self._update_running_statistics(batch, finite)
        return self._use_window(pooled, batch)
