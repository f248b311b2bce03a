"""What a network is evaluated with in place of the statistics of a batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch.optim.swa_utils import update_bn

from .task import Samples

USUAL_MOMENTUM = 0.1  # PyTorch's, which is meant for
USUAL_BATCH = 32  # images or so


class SlowStatistics:
    """Running statistics with a momentum in proportion to the batch, beside those that the layers keep.

    What enters the layers' own, from one call to the next, is solved for and enters these as well, so both
    average the same values, whatever a layer takes for them. A layer whose own momentum is smaller keeps it.

    Args:
        network: Whose layers, of one kind, and without statistics in those of GN.
        images: That a batch of the layers has.
    """

    def __init__(self, network: nn.Module, images: int) -> None:
        norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
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


def use_population_statistics(network: nn.Module, images: Tensor) -> None:
    """Replace the running statistics by those of ``images`` (N, 1, H, W) under the weights as they are.

    All images are one batch: each layer measures what the layers before it make with population statistics.
    """
    update_bn([images], network)


@torch.no_grad()
def evaluate(network: nn.Module, samples: Samples) -> tuple[float | None, float]:
    """Return loss, None where it is inf or nan, and accuracy, in evaluation mode."""
    network.eval()
    scores = torch.cat([network(part) for part in samples.images.split(250)])
    loss = F.cross_entropy(scores, samples.labels).item()
    accuracy = (scores.argmax(1) == samples.labels).double().mean().item()
    return loss if math.isfinite(loss) else None, accuracy
