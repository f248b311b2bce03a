"""Running statistics of another momentum than a network's own, along one training run."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parameters_to_vector, vector_to_parameters

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
        norms = trained_norms(network)
        self._buffers = [buffer for norm in norms for buffer in (norm.running_mean, norm.running_var)]
        if self._buffers:
            self._own_momentum = norms[0].momentum
            self.momentum = min(self._own_momentum, USUAL_MOMENTUM * images / USUAL_BATCH)
            self._last = self._current()
            self._values = self._last.clone()

    def update(self) -> None:
        """Follow a training forward of the network."""
        if self._buffers:
            current = self._current()
            entered = self._last + (current - self._last) / self._own_momentum
            self._values.lerp_(entered, self.momentum)
            self._last = current

    def put_in_place(self) -> None:
        """Replace the running statistics of the layers by these, after which neither is updated."""
        if self._buffers:
            vector_to_parameters(self._values, self._buffers)

    def _current(self) -> Tensor:
        return parameters_to_vector(self._buffers)
