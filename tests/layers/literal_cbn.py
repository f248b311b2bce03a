"""CBN as the paper writes it: autograd for every derivative, past weights stored, lists, no shortcuts."""

import torch
from torch import Tensor, nn


class LiteralCBN:
    """Equations 5 to 12 of arXiv 2002.05712 for one convolution; float64 in the tests."""

    def __init__(
        self,
        channels: int,
        window_size: int,
        burn_in: int = 0,
        compensate: bool = True,
        window_gradient: bool = False,
    ) -> None:
        self.gamma = torch.ones(channels, dtype=torch.float64, requires_grad=True)
        self.beta = torch.zeros(channels, dtype=torch.float64, requires_grad=True)
        self.running_mean = torch.zeros(channels, dtype=torch.float64)
        self.running_var = torch.ones(channels, dtype=torch.float64)
        self.window_size, self.burn_in, self.compensate = window_size, burn_in, compensate
        self.window_gradient = window_gradient
        self.past, self.calls, self.clamped = [], 0, 0

    def __call__(self, y: Tensor, conv: nn.Conv2d) -> Tensor:
        theta = [conv.weight] if conv.bias is None else [conv.weight, conv.bias]
        mu = y.mean(dim=(0, 2, 3))
        nu = (y * y).mean(dim=(0, 2, 3))
        # Channel j depends on filter j alone, so the gradient of the sum has all rows of the Jacobian.
        mu_grads = torch.autograd.grad(mu.sum(), theta, retain_graph=True)
        nu_grads = torch.autograd.grad(nu.sum(), theta, retain_graph=True)
        mus, nus = [mu], [nu]
        k = 1 if self.calls < self.burn_in else self.window_size
        for old_mu, old_nu, old_mu_grads, old_nu_grads, old_theta in self.past[: k - 1]:
            mu_s, nu_s = old_mu.clone(), old_nu.clone()
            if self.compensate:
                for p, q, now, then in zip(old_mu_grads, old_nu_grads, theta, old_theta, strict=True):
                    step = (now if self.window_gradient else now.detach()) - then
                    mu_s = mu_s + ((p * step).flatten(1).sum(1) if p.dim() > 1 else p * step)  # eq. 7
                    nu_s = nu_s + ((q * step).flatten(1).sum(1) if q.dim() > 1 else q * step)  # eq. 8
            self.clamped += int((nu_s < mu_s**2).sum())
            mus.append(mu_s)
            nus.append(torch.maximum(nu_s, mu_s**2))
        mu_bar = sum(mus) / len(mus)  # eq. 9
        nu_bar = sum(nus) / len(nus)  # eq. 10
        var_bar = nu_bar - mu_bar**2  # eq. 11
        if k > 1:
            entry = (mu.detach(), nu.detach(), mu_grads, nu_grads, [t.detach().clone() for t in theta])
            self.past = [entry, *self.past][: self.window_size - 1]
        self.calls += 1
        count = y.numel() / y.size(1)
        unbiased = (nu - mu**2).detach() * count / (count - 1)
        self.running_mean = 0.9 * self.running_mean + 0.1 * mu.detach()
        self.running_var = 0.9 * self.running_var + 0.1 * unbiased
        shape = (1, -1, 1, 1)
        normalized = (y - mu_bar.view(shape)) / (var_bar.view(shape) + 1e-5).sqrt()  # eq. 12
        return self.gamma.view(shape) * normalized + self.beta.view(shape)
