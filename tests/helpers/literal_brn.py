"""BRN's formula, with autograd."""

import torch
from torch import Tensor, nn

from tests.helpers.literal_norm import EACH, POSITIONS, LiteralNorm


class LiteralBRN(LiteralNorm):
    """Batch Renormalization as Ioffe writes it, with bounds that ramp from those of BN.

    Attributes:
        clipped: How often r or d was above its bound.
    """

    def __init__(self, channels: int, warmup: int, r_max: float, d_max: float, momentum: float) -> None:
        super().__init__(channels, momentum)
        self.warmup, self.r_max, self.d_max = warmup, r_max, d_max
        self.clipped = 0

    def __call__(
        self, y: Tensor, conv: nn.Conv2d | None = None, remember: bool = True, height: int | None = None
    ) -> Tensor:
        """Normalize as in training; ``remember`` tells whether the iteration counts."""
        done = min(self.iterations / self.warmup, 1) if self.warmup else 1
        r_limit, d_limit = 1 + (self.r_max - 1) * done, self.d_max * done
        mean, var = y.mean(POSITIONS), y.var(POSITIONS, correction=0)
        std, std_hat = (var + 1e-5).sqrt(), (self.running_var + 1e-5).sqrt()
        r_raw, d_raw = (std / std_hat).detach(), ((mean - self.running_mean) / std_hat).detach()
        self.clipped += int((r_raw > r_limit).sum() + (d_raw > d_limit).sum())
        r, d = r_raw.clamp(1 / r_limit, r_limit), d_raw.clamp(-d_limit, d_limit)
        mu, nu = mean.detach(), y.detach().square().mean(POSITIONS)
        self.conditioning = 1 + nu / (torch.minimum(var.detach(), self.running_var) + 1e-5)
        if remember and bool(torch.cat((mu, nu)).isfinite().all()):
            self._update_running_statistics(mu, mu**2 + var.detach(), y.numel() / y.size(1))
        self.iterations += remember
        normalized = (y - mean[EACH]) / std[EACH] * r[EACH] + d[EACH]
        return self.gamma[EACH] * normalized + self.beta[EACH]
