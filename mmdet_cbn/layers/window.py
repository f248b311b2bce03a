"""The entries that a cross-iteration layer keeps of its last iterations."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..ops import (
    ConvCall,
    Derivatives,
    Moments,
    PastMoments,
    PooledDerivatives,
    PooledMoments,
    all_finite,
    compensate,
    pool,
    pooled_derivatives,
    project,
)


class Window:
    """Ring of the last k - 1 iterations.

    It is held by the layer as an attribute, not as a set of buffers. Each process has its own and it
    refills within k iterations, so it must not be what buffers are: broadcast from rank 0 by DDP,
    matched by position with those of another copy by ``EMAHook``, cast by ``.half()``, saved (k - 1 times
    the size of the model) by MMEngine 0.10.7, which ignores ``persistent=False``.

    Whether an entry is taken is device arithmetic, so nothing waits for the GPU: in place of a bad one, the
    row is written with what it holds, and ``taken`` stays.

    Attributes:
        measured: Mean and variance as measured, shape (C, rows, 2); with compensation (C, rows, 4), where the
            derivatives times the weights that they were measured at follow, of the mean and of the variance.
        mean_derivative: Shape (groups, rows, D), or None for a window without compensation.
        variance_derivative: Shape (C, rows, D), or None.
        taken: int64, shape (): number of entries so far.
    """

    def __init__(self, window_size: int, mean: Tensor, theta: Tensor | None = None, groups: int = 1) -> None:
        """Allocate an empty window.

        Args:
            window_size: k, at least 2; it holds at most k - 1 entries, the current iteration not among them.
            mean: A tensor of shape (C,) that tells channels, type and device.
            theta: Weights (C, D) of the convolution, None for a window without compensation.
            groups: Groups of the convolution.
        """
        self.rows = rows = window_size - 1
        self.measured = mean.new_zeros(mean.numel(), rows, 2 if theta is None else 4)
        self.mean_derivative = self.variance_derivative = None
        if theta is not None:
            self.mean_derivative = mean.new_zeros(groups, rows, theta.size(1))
            self.variance_derivative = mean.new_zeros(mean.numel(), rows, theta.size(1))
        self.taken = torch.zeros((), dtype=torch.long, device=mean.device)

    @property
    def mean(self) -> Tensor:
        """Means as measured, shape (C, rows)."""
        return self.measured[..., 0]

    @property
    def var(self) -> Tensor:
        """Variances as measured, shape (C, rows)."""
        return self.measured[..., 1]

    @property
    def position(self) -> Tensor:
        """The row that is written next, in a full window the oldest: int64, shape (1,)."""
        return (self.taken % self.rows).reshape(1)

    @property
    def fill(self) -> Tensor:
        """Number of valid entries: int64, shape ()."""
        return self.taken.clamp(max=self.rows)

    @property
    def window_size(self) -> int:
        """The current iteration included, k."""
        return self.rows + 1

    def matches(self, window_size: int, mean: Tensor, theta: Tensor | None, groups: int = 1) -> bool:
        """Tell whether entries of this size, type and device fit in."""
        held = (self.window_size, self.measured.size(0), self.measured.dtype, self.measured.device)
        if (window_size, mean.numel(), mean.dtype, mean.device) != held:
            return False
        if theta is None or self.variance_derivative is None:
            return theta is None and self.variance_derivative is None
        return (groups, theta.size(1)) == (self.mean_derivative.size(0), self.mean_derivative.size(2))

    def apply(self, function: Callable[[Tensor], Tensor]) -> None:
        """Replace every tensor by ``function`` of it, as ``nn.Module._apply`` does with buffers."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, function(value))

    def valid(self) -> Tensor:
        """Return which rows hold an entry, bool, shape (rows,)."""
        return torch.arange(self.rows, device=self.taken.device) < self.taken

    def statistics(self, theta: Tensor | None = None, bias: Tensor | None = None) -> PastMoments:
        """Return mean and unclamped variance of all rows under today's weights (eq. 7 and 8)."""
        if theta is None:
            return PastMoments(self.mean, self.var)
        mean, var, mean_anchor, var_anchor = self.measured.unbind(2)
        derivatives = Derivatives(self.mean_derivative, self.variance_derivative)
        of_mean, of_var = project(derivatives, theta, bias)
        return compensate(mean, var, of_mean - mean_anchor, of_var - var_anchor)

    def average(self, current: Moments, past: PastMoments) -> PooledMoments:
        """Return mu_bar and var_bar of the current iteration and the entries (eq. 9 to 11)."""
        return pool(current, past, self.valid())

    def gradient(self, pooled: PooledMoments, past: PastMoments) -> PooledDerivatives:
        """Differentiate what :meth:`average` made of :meth:`statistics` by today's weights."""
        derivatives = Derivatives(self.mean_derivative, self.variance_derivative)
        return pooled_derivatives(pooled, past, past.mean - self.mean, derivatives, self.valid())

    def push(
        self, pooled: PooledMoments, call: ConvCall | None = None, derivatives: Derivatives | None = None
    ) -> None:
        """Add the current iteration, in place of the oldest in a full window, unless it is not finite.

        Args:
            pooled: What :meth:`average` returned.
            call: The call of the convolution, None for a window without compensation.
            derivatives: Of mean and variance, None likewise.
        """
        measured, writes = tuple(moment[:, None] for moment in pooled.current), []
        if derivatives is not None:
            row = Derivatives(derivatives.mean[:, None], derivatives.var[:, None])
            measured += project(row, call.theta, call.bias)
            writes = [(self.mean_derivative, row.mean), (self.variance_derivative, row.var)]
        entry = torch.stack(measured, 2)
        finite = all_finite(entry)  # an inf or nan anywhere in the derivatives reaches their products
        position = self.position
        for rows, value in ((self.measured, entry), *writes):
            kept = rows.index_select(1, position)
            rows.index_copy_(1, position, torch.where(finite, value, kept))
        self.taken.add_(finite)

    def diagnose(self, theta: Tensor | None = None, bias: Tensor | None = None) -> dict[str, Tensor]:
        """Summarize the window under today's weights; all values are tensors of shape ().

        Returns:
            ``fill``: number of entries; ``clamped``: share of their channels whose variance is
            extrapolated below 0; ``compensation``: root mean square of the correction of the means, in
            units of the standard deviation.
        """
        mean, var = self.statistics(theta, bias)
        valid = self.valid()
        count = (valid.sum() * mean.size(0)).clamp(min=1)
        step = (mean - self.mean).square() / self.var.clamp(min=torch.finfo(var.dtype).tiny)
        return {
            'fill': self.fill,
            'clamped': (valid & (var < 0)).sum() / count,
            'compensation': torch.where(valid, step, 0).sum().div(count).sqrt(),
        }
