"""What a network is evaluated with in place of the statistics of a batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import update_bn

from .task import Samples


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
