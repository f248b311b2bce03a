"""CBN with weights that decay, with every past entry in a list."""

import torch
from torch import Tensor, nn

from tests.helpers.literal_cbn import LiteralCBN


class LiteralExponentialCBN(LiteralCBN):
    """Averages the corrected statistics of *all* iterations with the weights (1 - alpha)^age.

    The variance is at least that of the current iteration times its weight. Where this bound takes over, the
    gradient is that of the average without it, and none of it goes through earlier iterations.
    """

    def __call__(self, y: Tensor, conv: nn.Conv2d) -> Tensor:
        theta = list(conv.parameters())
        mu, nu = y.mean((0, 2, 3)), y.square().mean((0, 2, 3))
        mu_grads = torch.autograd.grad(mu.sum(), theta, retain_graph=True)
        nu_grads = torch.autograd.grad(nu.sum(), theta, retain_graph=True)
        weights = [(1 - 2 / (self.window_size + 1)) ** age for age in range(len(self.past) + 1)]
        share = 1 / sum(weights)
        mus, nus = [mu], [nu]
        for old_mu, old_nu, *rows in self.past:
            mu_s, nu_s = old_mu, old_nu
            for now, p, q, then in zip(theta, *rows, strict=True) if self.compensate else ():
                mu_s = mu_s + (p * (now - then)).reshape(len(now), -1).sum(1)
                nu_s = nu_s + (q * (now - then)).reshape(len(now), -1).sum(1)
            mus.append(mu_s if self.window_gradient else mu_s.detach())
            nus.append(nu_s if self.window_gradient else nu_s.detach())
        mu_bar, var_bar = self._average(mus, nus, weights)
        _, without_past = self._average(
            [mu, *(old.detach() for old in mus[1:])], [nu, *(old.detach() for old in nus[1:])], weights
        )
        bound = share * (nu - mu**2).detach()
        bounded = var_bar.detach() < bound
        self.clamped += int(bounded.sum())
        var_bar = torch.where(bounded, without_past + (bound - without_past).detach(), var_bar)
        out = self._affine(y, mu_bar, var_bar)
        mu, nu = mu.detach(), nu.detach()
        self._update_running_statistics(mu, nu, y.numel() / y.size(1))
        self.past = [(mu, nu, mu_grads, nu_grads, [t.detach().clone() for t in theta]), *self.past]
        return out

    @staticmethod
    def _average(mus: list[Tensor], nus: list[Tensor], weights: list[float]) -> tuple[Tensor, Tensor]:
        mean, square = (
            sum(w * value for w, value in zip(weights, values, strict=True)) / sum(weights)
            for values in (mus, nus)
        )
        return mean, square - mean**2
