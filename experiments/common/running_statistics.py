"""Running statistics of another momentum than a network's own, along one training run."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmdet_cbn.layers import AveragedBatchNorm2d

from .methods import USUAL_BATCH

USUAL_MOMENTUM = 0.1  # PyTorch's, which is meant for a batch of that size


def trained_norms(network: nn.Module) -> list[_BatchNorm]:
    """Return the layers with running statistics that move in training, so without frozen ones."""
    return [module for module in network.modules() if isinstance(module, _BatchNorm) and module.training]


class SlowStatistics:
    """Running statistics with a momentum in proportion to the batch, beside those that the layers keep.

    What enters the layers' own, from one call to the next, is solved for and enters these as well, so both
    average the same values, whatever a layer takes for them. A layer whose own momentum is smaller keeps it.

    Args:
        network: In training mode. Its layers are of one kind, and those of GN have no statistics.
        images: That a batch of the layers has.
    """

    def __init__(self, network: nn.Module, images: int) -> None:
        self._norms = trained_norms(network)
        if self._norms:
            self._own_momentum = self._norms[0].momentum
            self.momentum = min(self._own_momentum, USUAL_MOMENTUM * images / USUAL_BATCH)
            self._last = self._current()
            self._values = self._last.clone()

    def update(self) -> None:
        """Follow a training forward of the network."""
        if self._norms:
            current = self._current()
            entered = self._last + (current - self._last) / self._own_momentum
            self._values.lerp_(entered, self.momentum)
            self._last = current

    def put_in_place(self) -> None:
        """Replace the running statistics of the layers by these, after which neither is updated."""
        if self._norms:
            means, variances = self._values
            channels = [norm.num_features for norm in self._norms]
            if self._averages_squares:
                variances = variances - means.square()
            for norm, mean, var in zip(
                self._norms, means.split(channels), variances.split(channels), strict=True
            ):
                norm.running_mean.copy_(mean)
                norm.running_var.copy_(var)

    @property
    def _averages_squares(self) -> bool:
        return isinstance(self._norms[0], AveragedBatchNorm2d)

    def _current(self) -> Tensor:
        """Return what is averaged, shape (2, channels of all layers)."""
        means = torch.cat([norm.running_mean for norm in self._norms])
        variances = torch.cat([norm.running_var for norm in self._norms])
        return torch.stack((means, variances + means.square() if self._averages_squares else variances))
