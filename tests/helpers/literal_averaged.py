"""AvgBN's formulas on plain lists."""

import torch
from torch import Tensor, nn

from tests.helpers.literal_exponential import LiteralGrowingCBN
from tests.helpers.literal_norm import EACH, POSITIONS


class LiteralAvgBN(LiteralGrowingCBN):
    """Averages of all four statistics, with weights whose span grows.

    Attributes:
        of_gradients: What entered in backward passes since the window was empty: the weight of each,
            and sum(g) and sum(g * z).
    """

    def __init__(self, channels: int, window_size: int, burn_in: int, momentum: float | None) -> None:
        super().__init__(channels, window_size, burn_in, compensate=False, momentum=momentum)
        self.of_gradients: list[tuple[float, Tensor]] = []
        self.share: float | None = None

    def __call__(
        self, y: Tensor, conv: nn.Conv2d, remember: bool = True, height: int | None = None
    ) -> Tensor:
        k = 1 if self.iterations < self.burn_in else self.window_size
        if remember and not (self.past and self.past_of == (k, self.dtype)):
            self.of_gradients = []
        self.share = None if k == 1 else 1.0
        return super().__call__(y, conv, remember, height)

    def _average(self, mus: list[Tensor], nus: list[Tensor]) -> tuple[Tensor, Tensor]:
        if self.share is None:  # burn-in
            return mus[0], nus[0]
        shares = [self.share_of(t) for t in range(len(mus))]
        self.share = shares[-1]
        return tuple(_average(shares, values[::-1]).detach() for values in (mus, nus))

    def _update_running_statistics(self, mu: Tensor, nu: Tensor, count: float) -> None:
        self.batches += 1
        momentum = 1 / self.batches if self.momentum is None else self.momentum
        square = (1 - momentum) * (self.running_var + self.running_mean**2) + momentum * nu
        self.running_mean = (1 - momentum) * self.running_mean + momentum * mu
        self.running_var = square - self.running_mean**2

    def collect(self, batches: list[Tensor]) -> None:
        super().collect(batches)
        square = torch.stack([y.square().mean(POSITIONS) for y in batches]).mean(0).detach()
        self.running_var = square - self.running_mean**2

    def _affine(self, y: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        share, z = self.share, (y - mean[EACH]) / (var[EACH] + 1e-5).sqrt()
        self.share = None  # evaluation is plain

        def take_averages_out(g: Tensor) -> Tensor:
            own = torch.stack([(g * factor).sum(POSITIONS) for factor in (1, z.detach())])
            if own.isfinite().all():
                self.of_gradients.append((share, own))
            if not self.of_gradients:
                return g * torch.nan
            shares, sums = zip(*self.of_gradients, strict=True)
            weight = _average(shares, [torch.ones((), dtype=sums[0].dtype)] * len(shares))
            used = _average(shares, sums) / weight / z[:, 0].numel()
            return g - used[0][EACH] - z.detach() * used[1][EACH]

        if share is not None and z.requires_grad:
            z.register_hook(take_averages_out)
        return self.gamma[EACH] * z + self.beta[EACH]


def _average(shares: list[float], values: list[Tensor]) -> Tensor:
    """Average values, oldest first; the share of each is taken from what is before it."""
    average = torch.zeros_like(values[0])
    for share, value in zip(shares, values, strict=True):
        average = (1 - share) * average + share * value
    return average
