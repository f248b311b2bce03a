"""Norms that take their statistics from a few images of a large batch, as ghost batch norm does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .arguments import check_integer
from .batch_renorm import BatchRenorm2d
from .moving_average import MovingAverageBatchNorm2d

if TYPE_CHECKING:
    _Behind = nn.BatchNorm2d
else:
    _Behind = object


class GhostBatches(_Behind):
    """Mixin in front of a batch norm: consecutive images of a batch are iterations of their own.

    The MABN paper trains with 32 images on each GPU and normalizes them in groups of 2, its normalization
    batch size, so that the gradient is that of a large batch and the statistics are those of a small one
    (Hoffer et al., NeurIPS 2017, arXiv 1705.08741, call such groups ghost batches). Each group is a training
    call of the layer, one after the other: with 16 groups, averages move 16 times an iteration, and arguments
    like ``warmup_iters`` count groups. The backward pass reaches the last group first, as autograd does.

    The last group holds what is left where the batch is no multiple. In eval mode the layer is the one that
    it inherits from, and so are its checkpoints. Activation checkpointing needs inputs that differ in shape,
    which groups do not.

    Args:
        num_features: Channels C of the input (N, C, H, W).
        norm_batch_size: Images in a group.
        **arguments: Those of the norm.

    Raises:
        ValueError: An argument is out of its range.
    """

    def __init__(self, num_features: int, *, norm_batch_size: int, **arguments: Any) -> None:
        check_integer('norm_batch_size', norm_batch_size, 1)
        super().__init__(num_features, **arguments)
        self.norm_batch_size = norm_batch_size

    def forward(self, x: Tensor) -> Tensor:
        """Normalize ``x`` of shape (N, C, H, W), in training group by group."""
        if not self.training or len(x) <= self.norm_batch_size:
            return super().forward(x)
        return torch.cat(
            [super(GhostBatches, self).forward(group) for group in x.split(self.norm_batch_size)]
        )

    def extra_repr(self) -> str:
        """Add the size of a group to the norm's own."""
        return f'{super().extra_repr()}, norm_batch_size={self.norm_batch_size}'


class GhostBatchNorm2d(GhostBatches, nn.BatchNorm2d):
    """BN of :class:`GhostBatches`."""


class GhostBatchRenorm2d(GhostBatches, BatchRenorm2d):
    """BRN of :class:`GhostBatches`."""


class GhostMovingAverageBatchNorm2d(GhostBatches, MovingAverageBatchNorm2d):
    """MABN of :class:`GhostBatches`; an average over the last m iterations is one over m groups."""
