"""A detector in small: a backbone, a pyramid of five levels, and a head that they share."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from mmdet_cbn.layers import pair_conv_norm
from tests.helpers.norms import NORMS
from tests.helpers.snapshot import snapshot

STEPS = 20
LEVELS = 5
# A little longer than elsewhere: 20 steps see burn-in and warm-up, and then what follows.
ARGUMENTS = {
    'CBN': {'window_size': 4, 'burn_in': 2},
    'NaiveCBN': {'window_size': 4, 'burn_in': 2},
    'AvgBN': {'window_size': 4, 'burn_in': 2},
    'MABN': {'buffer_size': 4, 'warmup_iters': 10},
    'BRN': {'warmup_iters': 10},
}
METHODS = tuple(kind for kind in NORMS if kind != 'CBN with window_gradient')


def make_norm(kind: str, channels: int) -> nn.Module:
    """Build one of :data:`~tests.helpers.norms.NORMS` with :data:`ARGUMENTS`."""
    return NORMS[kind](channels, **ARGUMENTS.get(NORMS[kind].type, {}))


class SmallDetector(nn.Module):
    """Five strided stages, a lateral convolution for each, and one head for all levels.

    Args:
        kind: Of :data:`~tests.helpers.norms.NORMS`; MABN comes with its centred convolutions.
        use_reentrant: Of activation checkpointing, None for none.
        shared_head: Whether the head has a norm of its own, which is then called once a level.
    """

    def __init__(self, kind: str, use_reentrant: bool | None = None, shared_head: bool = True) -> None:
        super().__init__()
        self.use_reentrant = use_reentrant

        def block(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
            layer = NORMS[kind].conv(inputs, outputs, kernel, stride, kernel // 2, bias=False)
            return nn.Sequential(layer, make_norm(kind, outputs), nn.ReLU())

        torch.manual_seed(0)
        channels = (3, 4, 6, 6, 6, 6)
        self.stages = nn.ModuleList(block(*channels[i : i + 2], 3, stride=2) for i in range(LEVELS))
        self.laterals = nn.ModuleList(nn.Conv2d(c, 4, 1) for c in channels[1:])
        self.head = nn.Sequential(*(block(4, 4, 3) if shared_head else ()), nn.Conv2d(4, 3, 1))
        pair_conv_norm(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return a map of (N, 3, h, w) for each level."""
        levels = []
        for stage, lateral in zip(self.stages, self.laterals, strict=True):
            x = self._run(stage, x)
            levels.append(lateral(x))
        return [self._run(self.head, level) for level in levels]

    def _run(self, part: nn.Module, x: Tensor) -> Tensor:
        # The reentrant kind has nothing to do for an input without a gradient, as in mmdet's with_cp.
        if self.use_reentrant is None or (self.use_reentrant and not x.requires_grad):
            return part(x)
        return checkpoint(part, x, use_reentrant=self.use_reentrant)


def norms_of(model: nn.Module) -> dict[str, nn.Module]:
    """Return the layers of this package by name."""
    return {name: module for name, module in model.named_modules() if hasattr(module, 'iterations')}


def images(step: int, number: int = 2, size: tuple[int, int] = (40, 48), seed: int = 0) -> Tensor:
    """Return the batch of a step: noise with a bright rectangle."""
    generator = torch.Generator().manual_seed(1000 * seed + step)
    x = torch.randn(number, 3, *size, generator=generator)
    x[:, :, step % 20 : step % 20 + 12, 5:30] += 1.5
    return x


def detection_loss(model: nn.Module, x: Tensor) -> Tensor:
    """Compare each level's map with the brightness there."""
    return loss_of_levels(model(x), x)


def loss_of_levels(levels: list[Tensor], x: Tensor) -> Tensor:
    """Compare maps of several sizes with the brightness of the images."""
    targets = [F.adaptive_avg_pool2d(x, level.shape[2:]) for level in levels]
    return sum(
        F.smooth_l1_loss(level.to(x.dtype), target) for level, target in zip(levels, targets, strict=True)
    )


def train(
    model: nn.Module,
    loss: Callable[[nn.Module, Tensor], Tensor] = detection_loss,
    batches: Iterable[Tensor] | None = None,
    after_step: Callable[[int], None] = lambda step: None,
) -> list[Tensor]:
    """Train by SGD with momentum; return the losses, which must be finite like all that was learnt."""
    optimizer = torch.optim.SGD(model.parameters(), 0.02, momentum=0.9)
    losses = []
    for step, x in enumerate(batches or map(images, range(STEPS))):
        optimizer.zero_grad()
        value = loss(model, x)
        value.backward()
        optimizer.step()
        losses.append(value.detach())
        after_step(step)
    assert_finite(model, losses)
    return losses


def assert_finite(model: nn.Module, losses: list[Tensor]) -> None:
    """Look at the losses, and at all that was learnt."""
    for value in losses:
        assert value.isfinite(), losses
    for name, value in snapshot(model).items():
        assert value.isfinite().all(), name
