"""MABN's formulas on plain lists."""

import torch
from torch import Tensor, nn

from tests.helpers.literal_norm import EACH, POSITIONS, LiteralNorm


class LiteralMABN(LiteralNorm):
    """Equations 19 and 20 of MABN with the released layer's running value.

    ``forward`` and ``backward`` are the ablations: which statistics take the place of the batch's.

    Attributes:
        chi2s, psis: Those of the last m iterations, by the number of the iteration modulo m. A psi of m
            iterations before stays where there is no backward pass, or one that is not finite.
        psi_hat: The exponential average of psi.
        clipped: How often r was at its bounds, used or not.
    """

    memory = ('iterations', 'chi2s', 'psis', 'psi_hat')

    def __init__(
        self,
        channels: int,
        m: int,
        warmup: int,
        r_max: float,
        momentum: float,
        forward: str = 'ema',
        backward: str = 'sma',
    ) -> None:
        super().__init__(channels, momentum)
        self.forward, self.backward = forward, backward
        self.m, self.warmup, self.r_max = m, warmup, r_max
        self.clipped = 0
        self.restart()

    def __call__(
        self, y: Tensor, conv: nn.Conv2d | None = None, remember: bool = True, height: int | None = None
    ) -> Tensor:
        """Normalize as in training; ``remember`` tells whether the iteration counts."""
        t = self.iterations + 1
        averaging = t > self.m and t >= self.warmup
        chi2_bar = chi2 = y.detach().square().mean(POSITIONS)
        entered = bool(chi2.isfinite().all())
        chi2s = {**self.chi2s, t % self.m: chi2}
        if averaging and self.forward != 'batch':
            chi2_bar = sum(chi2s.values()) / self.m
        # A mean that came with a checkpoint of BN is taken in.
        chi2_hat = self.running_var + self.running_mean**2
        std = (chi2_bar + 1e-5).sqrt()
        r = std / (chi2_hat + 1e-5).sqrt()
        self.clipped += int(((r < 1 / self.r_max) | (r > self.r_max)).sum())
        renormalizing = self.forward == 'ema' and t > max(1000, self.warmup)
        r = r.clamp(1 / self.r_max, self.r_max) if renormalizing else torch.ones_like(r)
        if remember and entered:
            self.chi2s, self.iterations = chi2s, t
            self.running_var = (1 - self.momentum) * chi2_hat + self.momentum * chi2_bar
            self.running_mean = torch.zeros_like(chi2)
            self.batches += 1

        z = y / std[EACH]

        def replace_psi(g: Tensor) -> Tensor:  # eq. 20, but for the division by std
            psi = (g * z.detach()).mean(POSITIONS)
            return g - z.detach() * self._psi_bar(psi, t, averaging, entered)[EACH]

        if z.requires_grad:
            z.register_hook(replace_psi)
        return (self.gamma * r)[EACH] * z + self.beta[EACH]  # eq. 19

    def _psi_bar(self, psi: Tensor, t: int, averaging: bool, entered: bool) -> Tensor:
        enters = entered and bool(psi.isfinite().all())
        if self.backward == 'sma':
            if enters:
                self.psis[t % self.m] = psi
            average = sum(self.psis.values()) / self.m
        else:
            if enters:
                share = max(1 / t, self.momentum)
                self.psi_hat = (1 - share) * self.psi_hat + share * psi
            average = self.psi_hat
        return average if averaging and self.backward != 'batch' else psi

    def restart(self) -> None:
        super().restart()
        self.chi2s, self.psis = {}, {}
        self.psi_hat = torch.zeros_like(self.running_var)

    def collect(self, batches: list[Tensor]) -> None:
        super().collect(batches)
        self.running_mean = torch.zeros_like(self.running_mean)
        self.running_var = torch.stack([y.square().mean(POSITIONS) for y in batches]).mean(0).detach()
