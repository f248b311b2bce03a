"""CBN with weights that decay, with every past entry in a list."""

import torch
from torch import Tensor, nn

from tests.helpers.literal_cbn import LiteralCBN


class LiteralExponentialCBN(LiteralCBN):
    """Averages the corrected statistics of *all* iterations with the weights (1 - alpha)^age.

    The maximum of eq. 10 is taken of the average of the earlier ones; autograd goes through it.
    """

    def __call__(self, y: Tensor, conv: nn.Conv2d) -> Tensor:
        theta = list(conv.parameters())
        mu, nu = y.mean((0, 2, 3)), y.square().mean((0, 2, 3))
        mu_grads = torch.autograd.grad(mu.sum(), theta, retain_graph=True)
        nu_grads = torch.autograd.grad(nu.sum(), theta, retain_graph=True)
        weights = [(1 - 2 / (self.window_size + 1)) ** age for age in range(len(self.past) + 1)]
        mus, nus = [], []
        for old_mu, old_nu, *rows in self.past:
            mu_s, nu_s = old_mu, old_nu
            for now, p, q, then in zip(theta, *rows, strict=True) if self.compensate else ():
                step = (now if self.window_gradient else now.detach()) - then
                mu_s = mu_s + (p * step).reshape(len(now), -1).sum(1)
                nu_s = nu_s + (q * step).reshape(len(now), -1).sum(1)
            mus.append(mu_s)
            nus.append(nu_s)
        mu_bar, nu_bar = mu, nu
        if self.past:
            m, n = (
                sum(w * value for w, value in zip(weights[1:], values, strict=True)) / sum(weights[1:])
                for values in (mus, nus)
            )
            share = weights[0] / sum(weights)
            self.clamped += int((n < m**2).sum())
            mu_bar = share * mu + (1 - share) * m
            nu_bar = share * nu + (1 - share) * torch.maximum(n, m**2)
        out = self._affine(y, mu_bar, nu_bar - mu_bar**2)
        mu, nu = mu.detach(), nu.detach()
        self._update_running_statistics(mu, nu, y.numel() / y.size(1))
        self.past = [(mu, nu, mu_grads, nu_grads, [t.detach().clone() for t in theta]), *self.past]
        return out
