"""CBN as the paper writes it: autograd for every derivative, past weights stored, lists, no shortcuts."""

import torch
from torch import Tensor, nn

EACH = (slice(None), None, None)  # one value a channel, over height and width


class LiteralCBN:
    """Equations 5 to 12 of arXiv 2002.05712 for one convolution; float64 in the tests.

    It follows the layer also where the paper is silent: in evaluation, without gradients, where statistics
    are not finite, and where the window gets another size.

    Attributes:
        gamma, beta: Parameters of its own; give it others to read another layer's.
        past: Latest first: mean, mean of squares, their derivatives and the weights of each iteration.
        past_size: The window size that they were collected for: they are dropped where another one is used.
        clamped: How often the maximum of eq. 10 took over.
    """

    def __init__(
        self,
        channels: int,
        window_size: int,
        burn_in: int = 0,
        compensate: bool = True,
        window_gradient: bool = False,
        momentum: float | None = 0.1,
    ) -> None:
        self.gamma = torch.ones(channels, dtype=torch.float64, requires_grad=True)
        self.beta = torch.zeros(channels, dtype=torch.float64, requires_grad=True)
        self.running_mean = torch.zeros(channels, dtype=torch.float64)
        self.running_var = torch.ones(channels, dtype=torch.float64)
        self.window_size, self.burn_in, self.compensate = window_size, burn_in, compensate
        self.window_gradient, self.momentum = window_gradient, momentum
        self.past, self.past_size = [], window_size
        self.iterations = self.batches = self.clamped = 0

    def __call__(self, y: Tensor, conv: nn.Conv2d, remember: bool = True) -> Tensor:
        """Normalize the output of the convolution as in training.

        Args:
            y: With its graph, which reaches the parameters of ``conv``.
            conv: The convolution.
            remember: Whether the iteration counts and enters the window; without gradients it does not.
        """
        theta = list(conv.parameters())
        mu, nu = y.mean((0, 2, 3)), y.square().mean((0, 2, 3))
        # Channel j depends on filter j alone, so the gradient of the sum has all rows of the Jacobian.
        mu_grads = torch.autograd.grad(mu.sum(), theta, retain_graph=True)
        nu_grads = torch.autograd.grad(nu.sum(), theta, retain_graph=True)
        k = 1 if self.iterations < self.burn_in else self.window_size
        if k == 1:
            self.past = []
        held = self.past if k == self.past_size else []
        mus, nus = [mu], [nu]
        for old_mu, old_nu, *rows in held:
            mu_s, nu_s = old_mu, old_nu
            for now, p, q, then in zip(theta, *rows, strict=True) if self.compensate else ():
                step = (now if self.window_gradient else now.detach()) - then
                mu_s = mu_s + (p * step).reshape(len(step), -1).sum(1)  # eq. 7
                nu_s = nu_s + (q * step).reshape(len(step), -1).sum(1)  # eq. 8
            self.clamped += int((nu_s < mu_s**2).sum())
            mus.append(mu_s)
            nus.append(torch.maximum(nu_s, mu_s**2))
        mu_bar = sum(mus) / len(mus)  # eq. 9
        nu_bar = sum(nus) / len(nus)  # eq. 10
        out = self._affine(y, mu_bar, nu_bar - mu_bar**2)  # eq. 11
        mu, nu = mu.detach(), nu.detach()
        finite = bool(torch.cat((mu, nu)).isfinite().all())
        if finite:
            self._update_running_statistics(mu, nu, y.numel() / y.size(1))
        if remember and k > 1:
            entry = (mu, nu, mu_grads, nu_grads, [t.detach().clone() for t in theta])
            self.past, self.past_size = [entry, *held][: k - 1] if finite else held, k
        self.iterations += remember
        return out

    def evaluate(self, y: Tensor) -> Tensor:
        """Normalize as in evaluation."""
        return self._affine(y, self.running_mean, self.running_var)

    def _affine(self, y: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        normalized = (y - mean[EACH]) / (var[EACH] + 1e-5).sqrt()  # eq. 12
        return self.gamma[EACH] * normalized + self.beta[EACH]

    def _update_running_statistics(self, mu: Tensor, nu: Tensor, count: float) -> None:
        self.batches += 1
        momentum = 1 / self.batches if self.momentum is None else self.momentum
        unbiased = (nu - mu**2) * count / (count - 1)
        self.running_mean = (1 - momentum) * self.running_mean + momentum * mu
        self.running_var = (1 - momentum) * self.running_var + momentum * unbiased
