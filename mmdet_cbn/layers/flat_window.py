"""The tensor in which a cross-iteration layer keeps what it remembers of earlier iterations."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..ops import Derivatives, all_finite


class FlatWindow:
    """Rows of derivatives by the weights and of values a channel, in one tensor.

    In one piece a row is tested and written by a handful of operations, however many parts it has. Whether it
    is taken is device arithmetic, so nothing waits for the GPU.

    A layer holds its window as an attribute, not as buffers. Each process has its own and it refills within
    k iterations, so it must not be what buffers are: broadcast from rank 0 by DDP, matched by position with
    those of another copy by ``EMAHook``, cast by ``.half()``, saved (k - 1 times the size of the model) by
    MMEngine 0.10.7, which ignores ``persistent=False``.

    Attributes:
        window_size: k.
        channels: C.
        groups: Groups of the convolution, 0 for a window without compensation.
        size: D = C_in / groups * kh * kw, 0 likewise.
        flat: Shape (rows, groups * D + C * D + columns * C).
    """

    def __init__(
        self, window_size: int, rows: int, columns: int, mean: Tensor, theta: Tensor | None, groups: int
    ) -> None:
        """Allocate zeros.

        Args:
            window_size: k.
            rows: Number of rows.
            columns: Number of values a channel.
            mean: A tensor of shape (C,) that tells channels, type and device.
            theta: Weights (C, D) of the convolution, None for a window without compensation.
            groups: Groups of the convolution.
        """
        self.window_size = window_size
        self.channels = mean.numel()
        self.groups, self.size = (0, 0) if theta is None else (groups, theta.size(1))
        self.flat = mean.new_zeros(rows, self._start + columns * self.channels)

    @staticmethod
    def size_for(images: int, calls: int = 1) -> int:
        """Return the CBN paper's k for the images of a batch: at least 16 of them, at most 8 iterations.

        ``calls`` of the layer in an iteration do not count: each entry costs the memory of the weights.
        """
        return min(math.ceil(16 / images), 8)

    @property
    def mean_derivative(self) -> Tensor:
        """Shape (groups, rows, D)."""
        rows = self.flat[:, : self.groups * self.size]
        by_group: Tensor = rows.unflatten(1, (self.groups, self.size))
        return by_group.transpose(0, 1)

    @property
    def variance_derivative(self) -> Tensor:
        """Shape (C, rows, D)."""
        rows = self.flat[:, self.groups * self.size : self._start]
        by_channel: Tensor = rows.unflatten(1, (self.channels, self.size))
        return by_channel.transpose(0, 1)

    @property
    def derivatives(self) -> Derivatives:
        """Both of them."""
        return Derivatives(self.mean_derivative, self.variance_derivative)

    @property
    def values(self) -> tuple[Tensor, ...]:
        """The columns, each of shape (C, rows)."""
        rows: Tensor = self.flat[:, self._start :].unflatten(1, (-1, self.channels))
        return rows.permute(1, 2, 0).unbind()

    def matches(self, window_size: int, mean: Tensor, theta: Tensor | None, groups: int = 1) -> bool:
        """Tell whether an iteration of this size, type and device fits in."""
        shape = (0, 0) if theta is None else (groups, theta.size(1))
        held = (self.window_size, self.channels, self.flat.dtype, self.flat.device, self.groups, self.size)
        return held == (window_size, mean.numel(), mean.dtype, mean.device, *shape)

    def apply(self, function: Callable[[Tensor], Tensor]) -> None:
        """Replace every tensor by ``function`` of it, as ``nn.Module._apply`` does with buffers."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, function(value))

    @property
    def _start(self) -> int:
        return (self.groups + self.channels) * self.size

    def _row(self, derivatives: Derivatives | None, *columns: Tensor) -> Tensor:
        """Lay derivatives (groups, D) and (C, D) and columns (C,) out as a row, shape (1, ...)."""
        return torch.cat([part.flatten() for part in (*(derivatives or ()), *columns)])[None]

    def _finite_columns(self, row: Tensor) -> Tensor:
        """Tell which columns of a row are finite, bool, shape (columns,).

        An inf or nan anywhere in the derivatives reaches their products, which are among the columns.
        """
        return all_finite(row[0, self._start :].view(-1, self.channels), 1)
