"""What the norms written out have in common: batch normalization's running statistics, in float64."""

import torch
from torch import Tensor

EACH = (slice(None), None, None)  # one value a channel, over height and width
POSITIONS = (0, 2, 3)


class LiteralNorm:
    """Running statistics, evaluation, gamma and beta of a norm.

    Attributes:
        gamma, beta: Parameters of its own; give it others to read another layer's.
        iterations, batches: Calls that count, and batches in the running statistics.
        conditioning: How many times the variance in use the largest term of its sum was in the last call,
            shape (C,), at least 1: by that factor rounding grows.
    """

    memory = ('iterations',)

    def __init__(self, channels: int, momentum: float | None) -> None:
        self.gamma = torch.ones(channels, dtype=torch.float64, requires_grad=True)
        self.beta = torch.zeros(channels, dtype=torch.float64, requires_grad=True)
        self.running_mean = torch.zeros(channels, dtype=torch.float64)
        self.running_var = torch.ones(channels, dtype=torch.float64)
        self.momentum = momentum
        self.iterations = self.batches = 0
        self.conditioning = torch.ones(channels, dtype=torch.float64)

    def evaluate(self, y: Tensor) -> Tensor:
        """Normalize as in evaluation."""
        return self._affine(y, self.running_mean, self.running_var)

    def restart(self) -> None:
        """Forget the iterations so far."""
        self.iterations = 0

    def collect(self, batches: list[Tensor]) -> None:
        """Take population statistics, each batch weighing as much."""
        self.running_mean = torch.stack([y.mean(POSITIONS) for y in batches]).mean(0).detach()
        self.running_var = torch.stack([y.var(POSITIONS) for y in batches]).mean(0).detach()
        self.batches = len(batches)

    def state(self) -> dict[str, object]:
        """Return what a checkpoint holds."""
        names = ('running_mean', 'running_var', 'batches', *self.memory)
        values = {name: getattr(self, name) for name in names}
        return {name: dict(value) if isinstance(value, dict) else value for name, value in values.items()}

    def load(self, state: dict[str, object]) -> None:
        """Take what :meth:`state` returned."""
        for name, value in state.items():
            setattr(self, name, dict(value) if isinstance(value, dict) else value)

    def _affine(self, y: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        normalized = (y - mean[EACH]) / (var[EACH] + 1e-5).sqrt()
        return self.gamma[EACH] * normalized + self.beta[EACH]

    def _update_running_statistics(self, mu: Tensor, nu: Tensor, count: float) -> None:
        self.batches += 1
        momentum = 1 / self.batches if self.momentum is None else self.momentum
        self.running_mean = (1 - momentum) * self.running_mean + momentum * mu
        if count > 1:
            unbiased = (nu - mu**2) * count / (count - 1)
            self.running_var = (1 - momentum) * self.running_var + momentum * unbiased
