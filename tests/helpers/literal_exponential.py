"""CBN with weights that decay, with every past entry in a list."""

from math import prod

import torch
from torch import Tensor

from tests.helpers.literal_cbn import LiteralCBN


class LiteralExponentialCBN(LiteralCBN):
    """Averages the corrected statistics of *all* iterations with the weights (1 - alpha)^age.

    The maximum of eq. 10 is taken of the average of the earlier ones; autograd goes through it.
    """

    def _weights(self, number: int) -> list[float]:
        """Return the weights of so many iterations, the latest first."""
        return [(1 - 2 / (self.window_size + 1)) ** age for age in range(number)]

    def _average(self, mus: list[Tensor], nus: list[Tensor]) -> tuple[Tensor, Tensor]:
        if len(mus) == 1:
            return mus[0], nus[0]
        weights = self._weights(len(mus))
        m, n = (
            sum(w * value for w, value in zip(weights[1:], values[1:], strict=True)) / sum(weights[1:])
            for values in (mus, nus)
        )
        share = weights[0] / sum(weights)
        self.clamped += int((n < m**2).sum())
        return share * mus[0] + (1 - share) * m, share * nus[0] + (1 - share) * torch.maximum(n, m**2)

    def _kept(self, entries: list[tuple], k: int) -> list[tuple]:
        return entries


class LiteralGrowingCBN(LiteralExponentialCBN):
    """The same with weights whose span grows, by one iteration in 25, until it is k."""

    def share_of(self, t: int) -> float:
        """Return the weight of iteration t, from 0, when it is the latest."""
        return max(2 / (self.window_size + 1), 1 / (1 + 0.02 * t))

    def _weights(self, number: int) -> list[float]:
        shares = [self.share_of(t) for t in range(number)]
        return [shares[t] * prod(1 - later for later in shares[t + 1 :]) for t in reversed(range(number))]
