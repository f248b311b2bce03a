"""An exponential window that reaches over the same part of the training wherever that stands."""

from __future__ import annotations

import math

from torch import Tensor

from ..ops import ExponentialMoments, Moments, pool_exponentially
from .exponential_window import ExponentialWindow

GROWTH = 0.02  # of the sum of weights, an iteration; chosen in a detector from scratch: docs/study.md
IMAGES = 64  # of the final span; half and twice as many made no difference in single trials there


class GrowingWindow(ExponentialWindow):
    """An :class:`.ExponentialWindow` whose span grows with the iterations until it is k.

    In iteration t, from 1, the current one has the weight a = 1 / (1 + (t - 1) / 50), but no less than alpha:
    so the mean age of an average is 2% of the iterations so far. A young training does not average
    over the statistics of a few dozen iterations ago, which are those of another network.

    Attributes:
        gradients: The averages of AvgBN's backward pass, shape (3, C); of other layers zeros.
    """

    def __init__(self, window_size: int, mean: Tensor, theta: Tensor | None = None, groups: int = 1) -> None:
        """Allocate an empty window; arguments as of :class:`.ExponentialWindow`."""
        super().__init__(window_size, mean, theta, groups)
        self.gradients = mean.new_zeros(3, self.channels)

    @staticmethod
    def size_for(images: int, calls: int = 1) -> int:
        """Return k for the images of a batch, with so many calls of the layer in an iteration.

        A longer memory than the paper's, as it costs nothing.
        """
        return math.ceil(IMAGES / images) * calls

    @property
    def fill(self) -> Tensor:
        """The span of which the latest iteration's weight is the alpha, shape ()."""
        return (2 / self.share - 1).clamp(min=0)  # 0 before the first entry, whose weight is huge

    def average(self, current: Moments, past: Moments) -> ExponentialMoments:
        """Return mu_bar and var_bar of the current iteration and ``statistics()`` (eq. 9 to 11)."""
        weights = (1 / self.share + GROWTH).clamp(1, 1 / self.alpha)
        return pool_exponentially(current, past, 1 / weights)
