"""All earlier iterations of a cross-iteration layer, with weights that decay, in the memory of one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..ops import (
    ConvCall,
    Derivatives,
    ExponentialMoments,
    Moments,
    PooledDerivatives,
    all_finite,
    exponential_derivatives,
    mix_derivatives,
    pool_exponentially,
    project,
)


class ExponentialWindow:
    """The average of all earlier iterations as one function of today's weights: see ``ops.exponential``.

    It is held by the layer as an attribute, for the reasons of :class:`.window.Window`. Its tensors are
    written in place, and whether an iteration is taken is device arithmetic.

    Attributes:
        window_size: k, the span of the decay: alpha = 2 / (k + 1), a mean age of (k - 1) / 2 as in a
            window of k entries.
        weights: Sum of the weights of all entries, shape (): 1 + (1 - alpha) + (1 - alpha)^2 + ...
        moments: Shape (C, 4): the centre z, which is the latest mu_bar; the constants m - <P, theta> and
            n - <Q, theta>; the average of the means as measured.
        mean_derivative: P, shape (groups, D), or None for a window without compensation.
        variance_derivative: Q, shape (C, D), or None.
    """

    def __init__(self, window_size: int, mean: Tensor, theta: Tensor | None = None, groups: int = 1) -> None:
        """Allocate an empty window.

        Args:
            window_size: k.
            mean: A tensor of shape (C,) that tells channels, type and device.
            theta: Weights (C, D) of the convolution, None for a window without compensation.
            groups: Groups of the convolution.
        """
        self.window_size = window_size
        self.weights = mean.new_zeros(())
        self.moments = mean.new_zeros(mean.numel(), 4)
        self.mean_derivative = self.variance_derivative = None
        if theta is not None:
            self.mean_derivative = mean.new_zeros(groups, theta.size(1))
            self.variance_derivative = mean.new_zeros(theta.shape)

    @property
    def alpha(self) -> float:
        """Weight of the current iteration among infinitely many."""
        return 2 / (self.window_size + 1)

    @property
    def centre(self) -> Tensor:
        """The latest mu_bar, shape (C,), about which squares are taken."""
        return self.moments[:, 0]

    @property
    def mean(self) -> Tensor:
        """Average of the means as measured, shape (C,)."""
        return self.moments[:, 3]

    @property
    def fill(self) -> Tensor:
        """Effective number of entries, (sum of weights)^2 / sum of squared weights, shape ()."""
        decayed = 1 - self.alpha * self.weights  # (1 - alpha)^t after t entries
        squares = (1 - decayed.square()) / (self.alpha * (2 - self.alpha))
        return self.weights.square() / squares.clamp(min=torch.finfo(squares.dtype).tiny)

    def matches(self, window_size: int, mean: Tensor, theta: Tensor | None, groups: int = 1) -> bool:
        """Tell whether an iteration of this size, type and device fits in."""
        held = (self.window_size, self.moments.size(0), self.moments.dtype, self.moments.device)
        if (window_size, mean.numel(), mean.dtype, mean.device) != held:
            return False
        if theta is None or self.variance_derivative is None:
            return theta is None and self.variance_derivative is None
        return (groups, theta.size(1)) == self.mean_derivative.shape

    def apply(self, function: Callable[[Tensor], Tensor]) -> None:
        """Replace every tensor by ``function`` of it, as ``nn.Module._apply`` does with buffers."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, function(value))

    def statistics(self, theta: Tensor | None = None, bias: Tensor | None = None) -> Moments:
        """Return m and the unbounded n - m^2 under today's weights (eq. 7 and 8, averaged)."""
        centre, mean, square, _ = self.moments.unbind(1)
        if theta is not None:
            held = Derivatives(self.mean_derivative, self.variance_derivative)
            of_mean, of_square = _project(held, theta, bias, self.mean - self.centre)
            mean, square = of_mean + mean, of_square + square
        step = mean - centre
        return Moments(mean, torch.addcmul(square, step, step, value=-1))

    def average(self, current: Moments, past: Moments) -> ExponentialMoments:
        """Return mu_bar and var_bar of the current iteration and :meth:`statistics` (eq. 9 to 11)."""
        return pool_exponentially(current, past, 1 / (1 + (1 - self.alpha) * self.weights))

    def gradient(self, pooled: ExponentialMoments, past: Moments) -> PooledDerivatives:
        """Differentiate what :meth:`average` made of :meth:`statistics` by today's weights."""
        derivatives = Derivatives(self.mean_derivative, self.variance_derivative)
        return exponential_derivatives(derivatives, pooled, past, self.centre, self.mean)

    def push(
        self,
        pooled: ExponentialMoments,
        call: ConvCall | None = None,
        derivatives: Derivatives | None = None,
    ) -> None:
        """Take the current iteration in, unless it is not finite.

        Args:
            pooled: What :meth:`average` returned.
            call: The call of the convolution, None for a window without compensation.
            derivatives: Of mean and variance, None likewise; the latter is changed in place.
        """
        mean = self.mean.lerp(pooled.current.mean, pooled.share)
        offset, square, writes = pooled.mean, pooled.free_var, []
        if derivatives is not None:
            held = Derivatives(self.mean_derivative, self.variance_derivative)
            mixed = mix_derivatives(held, derivatives, pooled, self.centre)
            of_mean, of_square = _project(mixed, call.theta, call.bias, mean - pooled.mean)
            offset, square = offset - of_mean, square - of_square
            writes = list(zip(held, mixed, strict=True))
        moments = torch.stack((pooled.mean, offset, square, mean), 1)
        finite = all_finite(moments)  # an inf or nan anywhere in the derivatives reaches their products
        writes += [(self.moments, moments), (self.weights, 1 / pooled.share)]
        for kept, new in writes:
            torch.where(finite, new, kept, out=kept)

    def diagnose(self, theta: Tensor | None = None, bias: Tensor | None = None) -> dict[str, Tensor]:
        """Summarize the window under today's weights; all values are tensors of shape ().

        Returns:
            ``fill``: effective number of entries; ``clamped``: share of the channels whose variance is
            extrapolated below 0; ``compensation``: root mean square of the correction of the mean, in units
            of the standard deviation (both under today's weights, channels with a variance above 0).
        """
        mean, var = self.statistics(theta, bias)
        step = (mean - self.mean).square() / var.clamp(min=torch.finfo(var.dtype).tiny)
        some = self.weights > 0
        return {
            'fill': self.fill,
            'clamped': (some & (var < 0)).to(var.dtype).mean(),
            'compensation': torch.where(some & (var > 0), step, 0).mean().sqrt(),
        }


def _project(
    derivatives: Derivatives, theta: Tensor, bias: Tensor | None, offset: Tensor
) -> tuple[Tensor, Tensor]:
    """Return <P, theta> and <Q, theta> of shape (C,), the bias being part of theta.

    By the bias, m has the derivative 1, and n twice the ``offset`` of the measured means from the centre.
    """
    rows = Derivatives(derivatives.mean[:, None], derivatives.var[:, None])
    of_mean, of_square = (product[:, 0] for product in project(rows, theta, bias))
    return of_mean, of_square if bias is None else torch.addcmul(of_square, offset, bias, value=2)
