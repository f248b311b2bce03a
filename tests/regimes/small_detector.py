"""A detector in small: a backbone, a pyramid of five levels, and a head that they share."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from mmdet_cbn.layers import (
    BatchRenorm2d,
    CenteredConv2d,
    CrossIterationBatchNorm2d,
    MovingAverageBatchNorm2d,
    NaiveCrossIterationBatchNorm2d,
    pair_conv_norm,
)

STEPS = 20
LEVELS = 5
# Short windows and warm-ups, so that 20 steps see all that a layer does.
KINDS = {
    'CBN': lambda channels: CrossIterationBatchNorm2d(channels, window_size=4, burn_in=2),
    'CBN with window_gradient': lambda channels: CrossIterationBatchNorm2d(
        channels, window_size=4, burn_in=2, window_gradient=True
    ),
    'NaiveCBN': lambda channels: NaiveCrossIterationBatchNorm2d(channels, window_size=4, burn_in=2),
    'MABN': lambda channels: MovingAverageBatchNorm2d(channels, buffer_size=4, warmup_iters=10),
    'BRN': lambda channels: BatchRenorm2d(channels, warmup_iters=10),
}
METHODS = tuple(kind for kind in KINDS if kind != 'CBN with window_gradient')


class SmallDetector(nn.Module):
    """Five strided stages, a lateral convolution for each, and one head for all levels.

    Args:
        kind: Of :data:`KINDS`; MABN comes with its centred convolutions.
        use_reentrant: Of activation checkpointing, None for none.
        shared_head: Whether the head has a norm of its own, which is then called once a level.
    """

    def __init__(self, kind: str, use_reentrant: bool | None = None, shared_head: bool = True) -> None:
        super().__init__()
        self.use_reentrant = use_reentrant
        conv = CenteredConv2d if kind == 'MABN' else nn.Conv2d

        def block(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
            layer = conv(inputs, outputs, kernel, stride, kernel // 2, bias=False)
            return nn.Sequential(layer, KINDS[kind](outputs), nn.ReLU())

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
    for value in losses:
        assert value.isfinite(), losses
    for name, value in remembered(model).items():
        assert value.isfinite().all(), name


def remembered(model: nn.Module) -> dict[str, Tensor]:
    """Everything that training leaves behind: parameters, last gradients, buffers, entries of windows."""
    state = dict(model.state_dict())
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            state[f'{name}.grad'] = parameter.grad
    for name, norm in norms_of(model).items():
        if getattr(norm, 'window', None) is not None:
            state |= {f'{name}.window.{key}': value for key, value in entries(norm.window).items()}
    return {name: value.detach().clone() for name, value in state.items()}


def entries(window: object) -> dict[str, Tensor]:
    """Return what a window holds, the entries that count along the first axis, newest last."""
    newest_last = [(int(window.position) - age) % window.rows for age in range(int(window.fill), 0, -1)]
    keys = ('mean', 'var', 'mean_derivative', 'variance_derivative')
    values = {key: getattr(window, key) for key in keys}
    return {key: value.movedim(1, 0)[newest_last] for key, value in values.items() if value is not None}


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor], but: tuple[str, ...] = ()) -> None:
    """Compare bit by bit, ``but`` for names that end so."""
    assert one.keys() == other.keys()
    for name in one:
        if not name.endswith(but):
            assert torch.equal(one[name], other[name]), name


def assert_close(one: dict[str, Tensor], other: dict[str, Tensor], tolerance: float) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert torch.allclose(one[name], other[name], tolerance, tolerance), name
