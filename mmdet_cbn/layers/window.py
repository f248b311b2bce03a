"""The entries that a cross-iteration layer keeps of its last iterations."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..ops import all_finite, compensate, pool, pooled_derivatives, project


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

    def __init__(self, rows: int, mean: Tensor, weight: Tensor | None = None, groups: int = 1) -> None:
        """Allocate an empty window.

        Args:
            rows: How many entries it holds at most: k - 1, since the current iteration is not among them.
            mean: A tensor of shape (C,) that tells channels, type and device.
            weight: Weights (C, D) of the convolution, None for a window without compensation.
            groups: Groups of the convolution.
        """
        self.rows = rows
        self.measured = mean.new_zeros(mean.numel(), rows, 2 if weight is None else 4)
        self.mean_derivative = self.variance_derivative = None
        if weight is not None:
            self.mean_derivative = mean.new_zeros(groups, rows, weight.size(1))
            self.variance_derivative = mean.new_zeros(mean.numel(), rows, weight.size(1))
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

    def matches(self, rows: int, mean: Tensor, weight: Tensor | None) -> bool:
        """Tell whether entries of this size, type and device fit in."""
        if (rows, mean.numel(), mean.dtype, mean.device) != (
            self.rows,
            self.measured.size(0),
            self.measured.dtype,
            self.measured.device,
        ):
            return False
        if weight is None or self.variance_derivative is None:
            return weight is None and self.variance_derivative is None
        return weight.size(1) == self.variance_derivative.size(2)

    def apply(self, function: Callable[[Tensor], Tensor]) -> None:
        """Replace every tensor by ``function`` of it, as ``nn.Module._apply`` does with buffers."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, function(value))

    def valid(self) -> Tensor:
        """Return which rows hold an entry, bool, shape (rows,)."""
        return torch.arange(self.rows, device=self.taken.device) < self.taken

    def statistics(self, weight: Tensor | None, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return mean and unclamped variance of all rows, (C, rows), under today's weights."""
        if weight is None:
            return self.mean, self.var
        mean, var, mean_anchor, var_anchor = self.measured.unbind(2)
        of_mean, of_var = project(self.mean_derivative, self.variance_derivative, weight, bias)
        return compensate(mean, var, of_mean - mean_anchor, of_var - var_anchor)

    def average(
        self, mean: Tensor, var: Tensor, past_mean: Tensor, past_var: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return mu_bar, var_bar and the share of the current statistics: see :func:`ops.pool`."""
        return pool(mean, var, past_mean, past_var, self.valid())

    def gradient(
        self, mean_bar: Tensor, share: Tensor, past_mean: Tensor, past_var: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Differentiate what :meth:`average` returned by today's weights: see :func:`ops.pooled_derivatives`.

        Args:
            mean_bar: Shape (C,), from :meth:`average`, like ``share``.
            share: Shape ().
            past_mean: Shape (C, rows), from :meth:`statistics`, like ``past_var``.
            past_var: See above.

        Returns:
            d mu_bar / d w and d var_bar / d w of shape (C, D), and for a bias of shapes () and (C,).
        """
        of_mean, *others = pooled_derivatives(
            mean_bar,
            share,
            past_mean,
            past_var,
            past_mean - self.mean,
            self.mean_derivative,
            self.variance_derivative,
            self.valid(),
        )
        groups, size = of_mean.shape
        return of_mean[:, None].expand(-1, mean_bar.numel() // groups, -1).reshape(-1, size), *others

    def push(
        self,
        mean: Tensor,
        var: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        derivatives: tuple[Tensor, Tensor] | None,
    ) -> None:
        """Add an entry, in place of the oldest when the window is full, unless it is not finite.

        Args:
            mean: Shape (C,).
            var: Shape (C,).
            weight: The weights (C, D) at which the entry was measured, or None.
            bias: Shape (C,) or None.
            derivatives: (groups, D) and (C, D), or None with ``weight``.
        """
        measured, writes = (mean[:, None], var[:, None]), []
        if derivatives is not None:
            of_mean, of_var = (derivative[:, None] for derivative in derivatives)
            measured += project(of_mean, of_var, weight, bias)
            writes = [(self.mean_derivative, of_mean), (self.variance_derivative, of_var)]
        entry = torch.stack(measured, 2)
        finite = all_finite(entry)  # an inf or nan anywhere in the derivatives reaches their products
        position = self.position
        for rows, value in ((self.measured, entry), *writes):
            kept = rows.index_select(1, position)
            rows.index_copy_(1, position, torch.where(finite, value, kept))
        self.taken.add_(finite)

    def diagnose(self, weight: Tensor | None, bias: Tensor | None) -> dict[str, Tensor]:
        """Summarize the window under today's weights; all values are tensors of shape ().

        Returns:
            ``fill``: number of entries; ``clamped``: share of their channels whose variance is
            extrapolated below 0; ``compensation``: root mean square of the correction of the means, in
            units of the standard deviation.
        """
        mean, var = self.statistics(weight, bias)
        valid = self.valid()
        count = (valid.sum() * mean.size(0)).clamp(min=1)
        step = (mean - self.mean).square() / self.var.clamp(min=torch.finfo(var.dtype).tiny)
        return {
            'fill': self.fill,
            'clamped': (valid & (var < 0)).sum() / count,
            'compensation': torch.where(valid, step, 0).sum().div(count).sqrt(),
        }


class _AttachGradient(torch.autograd.Function):
    """The identity of mu_bar and var_bar, with the derivatives by weights and bias that it is given."""

    @staticmethod
    def forward(
        ctx: Any,
        mean_bar: Tensor,
        var_bar: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        *gradient: Tensor,
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(*gradient)
        return mean_bar.clone(), var_bar.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_mean: Tensor, grad_var: Tensor) -> tuple[Tensor | None, ...]:
        of_mean, of_var, of_mean_bias, of_var_bias = ctx.saved_tensors
        grad_weight = (of_mean * grad_mean[:, None]).addcmul_(of_var, grad_var[:, None])
        grad_bias = of_mean_bias * grad_mean + of_var_bias * grad_var if ctx.needs_input_grad[3] else None
        return None, None, grad_weight, grad_bias, None, None, None, None


def attach_gradient(
    mean_bar: Tensor,
    var_bar: Tensor,
    gradient: tuple[Tensor, Tensor, Tensor, Tensor],
    weight: Tensor,
    bias: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Return mu_bar and var_bar unchanged, with gradients that reach the weights through past entries.

    Args:
        mean_bar: Shape (C,), like ``var_bar``.
        var_bar: See above.
        gradient: From :meth:`Window.gradient`.
        weight: The weights (C, D) with their graph.
        bias: Shape (C,) with its graph, or None.
    """
    return _AttachGradient.apply(mean_bar, var_bar, weight, bias, *gradient)
