"""CBN as the paper writes it: autograd for every derivative, past weights stored, lists, no shortcuts."""

import torch
from torch import Tensor, nn

from tests.helpers.literal_norm import POSITIONS, LiteralNorm


class LiteralCBN(LiteralNorm):
    """Equations 5 to 12 of arXiv 2002.05712 for one convolution; float64 in the tests.

    It follows the layer also where the paper is silent: in evaluation, without gradients, where statistics
    are not finite, and where the window gets another size or type.

    Attributes:
        past: Latest first: mean, mean of squares, their derivatives and the weights of each iteration.
        past_of: The window size and type that they were collected for: they are dropped where others are
            used.
        dtype: Type of the window.
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
        fraction: float = 1.0,
    ) -> None:
        super().__init__(channels, momentum)
        self.window_size, self.burn_in, self.compensate = window_size, burn_in, compensate
        self.window_gradient, self.fraction = window_gradient, fraction
        self.dtype = torch.float64
        self.past, self.past_of = [], (window_size, self.dtype)
        self.clamped = 0

    def __call__(
        self, y: Tensor, conv: nn.Conv2d, remember: bool = True, height: int | None = None
    ) -> Tensor:
        """Normalize the output of the convolution as in training.

        Args:
            y: With its graph, which reaches the parameters of ``conv``.
            conv: The convolution.
            remember: Whether the iteration counts and enters the window; without gradients it does not.
            height: Of the convolution's input, for derivatives from part of the positions.
        """
        theta = list(conv.parameters())
        mu, nu = y.mean(POSITIONS), y.square().mean(POSITIONS)
        # Channel j depends on filter j alone, so the gradient of the sum has all rows of the Jacobian.
        mu_grads = torch.autograd.grad(mu.sum(), theta, retain_graph=True)
        if self.fraction == 1:
            nu_grads = torch.autograd.grad(nu.sum(), theta, retain_graph=True)
        else:
            nu_grads = self._estimate(y, mu, mu_grads, conv, height)
        k = 1 if self.iterations < self.burn_in else self.window_size
        if k == 1:
            self.past = []
        held = self.past if self.past_of == (k, self.dtype) else []
        mus, nus, largest = [mu], [nu], nu.detach()
        for old_mu, old_nu, *rows in held:
            mu_s, nu_s = old_mu, old_nu
            for now, p, q, then in zip(theta, *rows, strict=True) if self.compensate else ():
                step = (now if self.window_gradient else now.detach()) - then
                mu_s = mu_s + _row_sums(p * step)  # eq. 7
                nu_s = nu_s + _row_sums(q * step)  # eq. 8
                terms = [_row_sums((g * w.detach()).abs()) for g in (p, q) for w in (now, then)]
                largest = largest + terms[0] ** 2 + terms[1] ** 2 + terms[2] + terms[3]
            largest = largest + old_nu
            mus.append(mu_s)
            nus.append(nu_s)
        mu_bar, nu_bar = self._average(mus, nus)
        var_bar = nu_bar - mu_bar**2
        self.conditioning = 1 + (largest / (var_bar.detach() + 1e-5)).nan_to_num(
            0
        )  # of squares that overflow
        out = self._affine(y, mu_bar, var_bar)  # eq. 11 and 12
        mu, nu = mu.detach(), nu.detach()
        finite = bool(torch.cat((mu, nu)).isfinite().all())
        if finite:
            self._update_running_statistics(mu, nu, y.numel() / y.size(1))
        if remember and k > 1:
            entry = (mu, nu, mu_grads, nu_grads, [t.detach().clone() for t in theta])
            self.past, self.past_of = self._kept([entry, *held], k) if finite else held, (k, self.dtype)
        self.iterations += remember
        return out

    def restart(self) -> None:
        super().restart()
        self.past = []

    def collect(self, batches: list[Tensor]) -> None:
        super().collect(batches)
        self.past = []

    def _average(self, mus: list[Tensor], nus: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Average statistics under today's weights, this iteration's first."""
        self.clamped += sum(int((n < m**2).sum()) for m, n in zip(mus[1:], nus[1:], strict=True))
        bounded = [torch.maximum(n, m**2) for m, n in zip(mus[1:], nus[1:], strict=True)]
        return sum(mus) / len(mus), sum(bounded, nus[0]) / len(nus)  # eq. 9 and 10

    def _kept(self, entries: list[tuple], k: int) -> list[tuple]:
        return entries[: k - 1]

    def _estimate(
        self, y: Tensor, mu: Tensor, mu_grads: tuple[Tensor, ...], conv: nn.Conv2d, height: int
    ) -> list[Tensor]:
        """Take the derivative of a part's variance, scaled by the ratio of variances."""
        part = part_of(y, conv, height, self.fraction)
        of_part = part.var(POSITIONS, correction=0)
        grads = torch.autograd.grad(of_part.sum(), list(conv.parameters()), retain_graph=True)
        ratio = y.detach().var(POSITIONS, correction=0) / of_part.detach()
        ratio = torch.where(of_part > 0, ratio.clamp(max=1 / self.fraction), 0)

        def column(values: Tensor, like: Tensor) -> Tensor:
            return values.detach().reshape(-1, *[1] * (like.dim() - 1))

        return [column(ratio, r) * r + 2 * column(mu, p) * p for r, p in zip(grads, mu_grads, strict=True)]


def part_of(y: Tensor, conv: nn.Conv2d, height: int, fraction: float) -> Tensor:
    """Return an evenly spaced part of the outputs, as ``estimate_variance_derivative`` describes it."""
    step = round(1 / fraction)
    reach = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
    padding = {'valid': 0, 'same': reach[0] // 2}.get(conv.padding, conv.padding[0])
    padded_before = conv.padding_mode != 'zeros' or (conv.padding == 'same' and any(r % 2 for r in reach))
    tops = [row * conv.stride[0] - padding for row in range(y.size(2))]
    clear = [r for r, top in enumerate(tops) if padded_before or 0 <= top <= height - reach[0] - 1]
    of_images, of_rows = max(1, min(step, y.size(0) // 4)), min(step, len(clear) // 3)
    if of_images >= of_rows:
        return y[of_images // 2 :: of_images]
    return y[:, :, clear[(of_rows - 1) // 2 :: of_rows]]


def _row_sums(products: Tensor) -> Tensor:
    return products.reshape(len(products), -1).sum(1)
