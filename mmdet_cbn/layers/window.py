"""The entries that a cross-iteration layer keeps of its last iterations."""

from __future__ import annotations

import torch
from torch import Tensor

from ..ops import (
    ConvCall,
    Derivatives,
    Moments,
    PastMoments,
    PooledDerivatives,
    PooledMoments,
    compensate,
    intercepts,
    pool,
    pooled_derivatives,
)
from .flat_window import FlatWindow


class Window(FlatWindow):
    """Ring of the last k - 1 iterations, a row each.

    In place of a bad entry, the row is written with what it holds, and ``taken`` stays.

    Attributes:
        taken: int64, shape (): number of entries so far.
        shares: Row n holds the weights of the current iteration and of each row where n of the rows are
            entries, shape (rows + 1, rows + 1).
    """

    def __init__(self, window_size: int, mean: Tensor, theta: Tensor | None = None, groups: int = 1) -> None:
        """Allocate an empty window.

        Args:
            window_size: k, at least 2; it holds at most k - 1 entries, the current iteration not among them.
            mean: A tensor of shape (C,) that tells channels, type and device.
            theta: Weights (C, D) of the convolution, None for a window without compensation.
            groups: Groups of the convolution.
        """
        super().__init__(window_size, window_size - 1, 2 if theta is None else 4, mean, theta, groups)
        self.taken = torch.zeros((), dtype=torch.long, device=mean.device)
        entries = mean.new_ones(window_size, window_size).tril()
        self.shares = entries / entries.sum(1, keepdim=True)

    @property
    def rows(self) -> int:
        """Number of rows, k - 1."""
        return self.flat.size(0)

    @property
    def mean(self) -> Tensor:
        """Means as measured, shape (C, rows)."""
        return self.values[0]

    @property
    def var(self) -> Tensor:
        """Variances as measured, shape (C, rows)."""
        return self.values[1]

    @property
    def position(self) -> Tensor:
        """The row that is written next, in a full window the oldest. It is int64, of shape (1,)."""
        return (self.taken % self.rows).reshape(1)

    @property
    def fill(self) -> Tensor:
        """Number of valid entries, int64, of shape ()."""
        return self.taken.clamp(max=self.rows)

    def valid(self) -> Tensor:
        """Return which rows hold an entry, bool, shape (rows,)."""
        return torch.arange(self.rows, device=self.taken.device) < self.taken

    def statistics(self, theta: Tensor | None = None, bias: Tensor | None = None) -> PastMoments:
        """Return mean and unclamped variance of all rows under today's weights (eq. 7 and 8)."""
        mean, var, *anchors = self.values
        if theta is None:
            return PastMoments(mean, var)
        return compensate(mean, PastMoments(*anchors), self.derivatives, theta, bias)

    def average(self, current: Moments, past: PastMoments) -> PooledMoments:
        """Return mu_bar and var_bar of the current iteration and the entries (eq. 9 to 11)."""
        return pool(current, past, self.shares.index_select(0, self.fill.reshape(1))[0])

    def centre(self, pooled: PooledMoments) -> Tensor:
        """Return the current mean, shape (C,), about which the squares of an entry are taken."""
        return pooled.current.mean

    def gradient(self, pooled: PooledMoments, past: PastMoments) -> PooledDerivatives:
        """Differentiate what :meth:`average` made of :meth:`statistics` by today's weights."""
        return pooled_derivatives(pooled, past, past.mean - self.mean, self.derivatives)

    def push(
        self, pooled: PooledMoments, call: ConvCall | None = None, derivatives: Derivatives | None = None
    ) -> Tensor:
        """Add the current iteration, in place of the oldest in a full window, unless it is not finite.

        Args:
            pooled: What :meth:`average` returned.
            call: The call of the convolution, None for a window without compensation.
            derivatives: Of mean and variance, None likewise.

        Returns:
            Whether the variance is finite, bool, shape ().
        """
        columns = list(pooled.current)
        if call is not None and derivatives is not None:
            moments = PastMoments(*(moment[:, None] for moment in pooled.current))
            rows = Derivatives(*(rows[:, None] for rows in derivatives))
            columns += intercepts(moments, rows, call.theta, call.bias)
        row = self._row(derivatives, *columns)
        finite = self._finite_columns(row)
        position = self.position
        kept = self.flat.index_select(0, position)
        taken = finite.all()
        self.flat.index_copy_(0, position, torch.where(taken, row, kept))
        self.taken.add_(taken)
        return finite[1]

    def diagnose(self, theta: Tensor | None = None, bias: Tensor | None = None) -> dict[str, Tensor]:
        """Summarize the window under today's weights; all values are tensors of shape ().

        Returns:
            ``fill``: number of entries; ``clamped``: share of their channels whose variance is
            extrapolated below 0; ``compensation``: root mean square of the correction of the means, in
            units of the standard deviation under today's weights, over the other channels.
        """
        mean, var = self.statistics(theta, bias)
        valid, free = self.valid(), self.valid() & (var > 0)
        step = (mean - self.mean).square() / var.clamp(min=torch.finfo(var.dtype).tiny)
        return {
            'fill': self.fill,
            'clamped': (valid & (var < 0)).sum() / (valid.sum() * mean.size(0)).clamp(min=1),
            'compensation': (torch.where(free, step, 0).sum() / free.sum().clamp(min=1)).sqrt(),
        }
