"""Moving Average Batch Normalization (MABN)."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from ..ops import mean_of_squares, moving_average_normalize
from .arguments import check_integer, check_number
from .stateful_batch_norm import StatefulBatchNorm2d


class MovingAverageBatchNorm2d(StatefulBatchNorm2d, _BatchNorm):
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
    averages and changes nothing, since what it changed would alter the next training output. Psi_B scales
    with the loss: a dynamic loss scale that jumps is felt for m iterations.

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
        device: Of parameters and buffers.
        dtype: Of parameters and buffers.
        **unknown: Nothing else is taken.

    Raises:
        ValueError: An argument is out of its range or unknown; the input is not 4D.

    Example:
        >>> block = nn.Sequential(CenteredConv2d(3, 8, 3, bias=False), MovingAverageBatchNorm2d(8))
        >>> block(torch.randn(2, 3, 16, 16)).shape
        torch.Size([2, 8, 14, 14])
    """

    arguments = ('buffer_size', 'warmup_iters', 'r_max')
    memory = ('iterations', 'chi2_buffer', 'psi_buffer')

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
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **unknown: object,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, unknown)
        self._require_running_statistics()
        check_integer('buffer_size', buffer_size, 1)
        check_integer('warmup_iters', warmup_iters, 0)
        check_number('r_max', r_max, 1)
        self.buffer_size = buffer_size
        self.warmup_iters = warmup_iters
        self.r_max = r_max
        for name in ('chi2_buffer', 'psi_buffer'):
            rows = torch.zeros(buffer_size, num_features, device=device, dtype=dtype)
            self.register_buffer(name, rows)

    def _advance(self, x: Tensor) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]:
        self._require_running_statistics()
        with torch.no_grad():
            chi2_batch = mean_of_squares(x)
            t = self.iterations + 1
            row = (t % self.buffer_size).reshape(1)
            averaging = (t > self.buffer_size) & (t >= self.warmup_iters)
            chi2_rows = self.chi2_buffer.index_copy(0, row, chi2_batch.to(self.chi2_buffer)[None])
            chi2 = torch.where(averaging, chi2_rows.mean(0), chi2_batch)
            # E[x^2] = var + mean^2: a checkpoint of BN brings a mean along, which is 0 from here on.
            chi2_hat = (self.running_var + self.running_mean.square()).to(chi2)
            r = ((chi2 + self.eps) / (chi2_hat + self.eps)).sqrt()
            r = torch.where(t > max(1000, self.warmup_iters), r.clamp(1 / self.r_max, self.r_max), 1.0)
        entered = chi2_batch.isfinite().all()
        if torch.is_grad_enabled():
            self._remember(chi2_rows, chi2, chi2_hat, entered)

        def average(psi: Tensor) -> Tensor:
            kept = self.psi_buffer.index_select(0, row)
            enters = entered & psi.isfinite().all()
            self.psi_buffer.index_copy_(0, row, torch.where(enters, psi.to(kept)[None], kept))
            return torch.where(averaging, self.psi_buffer.mean(0).to(psi), psi)

        return chi2, r, average

    def _normalize(self, x: Tensor, chi2: Tensor, r: Tensor, average: Callable[[Tensor], Tensor]) -> Tensor:
        return moving_average_normalize(x, self.weight, self.bias, chi2, r, self.eps, average)

    @torch.no_grad()
    def _remember(self, chi2_rows: Tensor, chi2: Tensor, chi2_hat: Tensor, entered: Tensor) -> None:
        self.chi2_buffer.copy_(torch.where(entered, chi2_rows, self.chi2_buffer))
        moved = chi2_hat.lerp(chi2, self.momentum).to(self.running_var)
        self.running_var.copy_(torch.where(entered, moved, self.running_var))
        self.running_mean.mul_(~entered)
        self.num_batches_tracked.add_(entered)
        self.iterations.add_(entered)
