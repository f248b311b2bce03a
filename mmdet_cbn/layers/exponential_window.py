"""All earlier iterations of a cross-iteration layer, with weights that decay, in the memory of one."""

from __future__ import annotations

import torch
from torch import Tensor

from ..ops import (
    ConvCall,
    Derivatives,
    ExponentialMoments,
    Moments,
    PastMoments,
    PooledDerivatives,
    compensate,
    exponential_derivatives,
    intercepts,
    mix_derivatives,
    pool_exponentially,
)
from .flat_window import FlatWindow


class ExponentialWindow(FlatWindow):
    """The average of all earlier iterations as one function of today's weights: see ``ops.exponential``.

    Its one row holds P and Q, and of each channel the centre z, which is the latest mu_bar; the constants
    m - <P, theta> and n - <Q, theta>; the average of the means as measured (the derivative of n by a bias is
    twice its distance to z); the weight of the latest iteration, the same in all; and its variance, which is
    there to be tested with the rest.
    """

    def __init__(self, window_size: int, mean: Tensor, theta: Tensor | None = None, groups: int = 1) -> None:
        """Allocate an empty window.

        Args:
            window_size: k, the span of the decay: alpha = 2 / (k + 1), a mean age of (k - 1) / 2 as in a
                window of k entries.
            mean: A tensor of shape (C,) that tells channels, type and device.
            theta: Weights (C, D) of the convolution, None for a window without compensation.
            groups: Groups of the convolution.
        """
        super().__init__(window_size, 1, 6, mean, theta, groups)
        # A first weight that is as good as infinite leaves the one of the next iteration at 1.
        self.values[4].fill_(torch.finfo(mean.dtype).max)

    @property
    def alpha(self) -> float:
        """Weight of the current iteration among infinitely many."""
        return 2 / (self.window_size + 1)

    @property
    def centre_of_squares(self) -> Tensor:
        """z, the latest mu_bar, shape (C,)."""
        return self.values[0][:, 0]

    @property
    def mean(self) -> Tensor:
        """Average of the means as measured, shape (C,)."""
        return self.values[3][:, 0]

    @property
    def share(self) -> Tensor:
        """Weight of the latest iteration, shape ()."""
        return self.values[4][0, 0]

    @property
    def fill(self) -> Tensor:
        """Effective number of entries, (sum of weights)^2 / sum of squared weights, shape ()."""
        weights = 1 / self.share
        decayed = 1 - self.alpha * weights  # (1 - alpha)^t after t entries
        squares = (1 - decayed.square()) / (self.alpha * (2 - self.alpha))
        return weights.square() / squares.clamp(min=torch.finfo(squares.dtype).tiny)

    def statistics(self, theta: Tensor | None = None, bias: Tensor | None = None) -> Moments:
        """Return m and the unbounded n - m^2 under today's weights (eq. 7 and 8, averaged)."""
        centre, mean, square, measured, *_ = self.values
        if theta is None:
            return Moments(mean[:, 0], square[:, 0])
        past = compensate(centre, PastMoments(mean, square), self.derivatives, theta, bias)
        if bias is not None:
            past.var.addcmul_(measured - centre, bias[:, None], value=2)
        return Moments(past.mean[:, 0], past.var[:, 0])

    def average(self, current: Moments, past: Moments) -> ExponentialMoments:
        """Return mu_bar and var_bar of the current iteration and :meth:`statistics` (eq. 9 to 11)."""
        # The sum of weights W = 1 / share goes to 1 + (1 - alpha) W.
        return pool_exponentially(current, past, self.share / (self.share + (1 - self.alpha)))

    def centre(self, pooled: ExponentialMoments) -> Tensor:
        """Return mu_bar, shape (C,), about which the squares of this iteration are taken."""
        return pooled.mean

    def gradient(self, pooled: ExponentialMoments, past: Moments) -> PooledDerivatives:
        """Differentiate what :meth:`average` made of :meth:`statistics` by today's weights."""
        derivatives = Derivatives(*(rows[:, 0] for rows in self.derivatives))
        return exponential_derivatives(derivatives, pooled, past, self.centre_of_squares, self.mean)

    def push(
        self,
        pooled: ExponentialMoments,
        call: ConvCall | None = None,
        derivatives: Derivatives | None = None,
    ) -> Tensor:
        """Take the current iteration in, unless it is not finite.

        Args:
            pooled: What :meth:`average` returned.
            call: The call of the convolution, None for a window without compensation.
            derivatives: Of its mean, and of its mean of squares about mu_bar; None likewise.

        Returns:
            Whether its variance is finite, bool, shape ().
        """
        measured = self.mean.lerp(pooled.current.mean, pooled.share)
        offset, square = pooled.mean, pooled.free_var
        if call is not None and derivatives is not None:
            held = Derivatives(*(rows[:, 0] for rows in self.derivatives))
            step = pooled.mean - self.centre_of_squares
            derivatives = mix_derivatives(held, derivatives, step, pooled.share)
            rows = Derivatives(*(rows[:, None] for rows in derivatives))
            moments = PastMoments(offset[:, None], square[:, None])
            offset, square = (value[:, 0] for value in intercepts(moments, rows, call.theta, call.bias))
            if call.bias is not None:
                square.addcmul_(measured - pooled.mean, call.bias, value=-2)
        share = pooled.share.expand(self.channels)
        row = self._row(derivatives, pooled.mean, offset, square, measured, share, pooled.current.var)
        finite = self._finite_columns(row)
        torch.where(finite.all(), row, self.flat, out=self.flat)
        return finite[-1]

    def diagnose(self, theta: Tensor | None = None, bias: Tensor | None = None) -> dict[str, Tensor]:
        """Summarize the window under today's weights; all values are tensors of shape ().

        Returns:
            ``fill``: effective number of entries; ``clamped``: share of the channels whose variance is
            extrapolated below 0; ``compensation``: root mean square of the correction of the mean, in units
            of the standard deviation under today's weights, over the other channels.
        """
        mean, var = self.statistics(theta, bias)
        some = self.share <= 1
        free = some & (var > 0)
        step = (mean - self.mean).square() / var.clamp(min=torch.finfo(var.dtype).tiny)
        return {
            'fill': self.fill,
            'clamped': (some & (var < 0)).to(var.dtype).mean(),
            'compensation': (torch.where(free, step, 0).sum() / free.sum().clamp(min=1)).sqrt(),
        }
