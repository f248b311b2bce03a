"""CBN with weights that decay, with every past entry in a list."""

import torch
from torch import Tensor

from tests.helpers.literal_cbn import LiteralCBN


class LiteralExponentialCBN(LiteralCBN):
    """Averages the corrected statistics of *all* iterations with the weights (1 - alpha)^age.

    The maximum of eq. 10 is taken of the average of the earlier ones; autograd goes through it.
    """

    def _average(self, mus: list[Tensor], nus: list[Tensor]) -> tuple[Tensor, Tensor]:
        if len(mus) == 1:
            return mus[0], nus[0]
        weights = [(1 - 2 / (self.window_size + 1)) ** age for age in range(len(mus))]
        m, n = (
            sum(w * value for w, value in zip(weights[1:], values[1:], strict=True)) / sum(weights[1:])
            for values in (mus, nus)
        )
        share = weights[0] / sum(weights)
        self.clamped += int((n < m**2).sum())
        return share * mus[0] + (1 - share) * m, share * nus[0] + (1 - share) * torch.maximum(n, m**2)

    def _kept(self, entries: list[tuple], k: int) -> list[tuple]:
        return entries
