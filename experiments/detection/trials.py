"""Which detectors the study of norms trains."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from .configs import changes
from .regimes import REGIMES, data_settings


@dataclass(frozen=True)
class DetectionRun:
    """What distinguishes one run from the others.

    Args:
        method: A name in ``METHODS``.
        batch_size: Images a process and iteration.
        seed: Of the initial weights, the order of the images and their flips.
        rate: Learning rate for each image of an iteration.
        regime: A name in ``REGIMES``.
        epochs: How long it trains.
        split: What it is evaluated on, 'validation' or 'test'.
        processes: How many train it.
        train_images: In the training set.
        held_out: Images that it is evaluated on; population statistics are of as many training images.
    """

    method: str
    batch_size: int
    seed: int
    rate: float
    regime: str
    epochs: int
    split: str = 'test'
    processes: int = 2
    train_images: int = 500
    held_out: int = 200

    @property
    def name(self) -> str:
        """What distinguishes it within its study, as one word."""
        return (
            f'{self.regime}_{self.method}_batch{self.batch_size}_rate{self.rate:g}_{self.split}'
            f'_seed{self.seed}'
        )

    @property
    def iterations(self) -> int:
        """Iterations an epoch."""
        return math.ceil(math.ceil(self.train_images / self.processes) / self.batch_size)

    @property
    def all_iterations(self) -> int:
        """Iterations of the whole run."""
        return self.epochs * self.iterations

    @property
    def iteration_images(self) -> int:
        """Images an iteration."""
        return self.batch_size * self.processes

    @property
    def settings(self) -> dict[str, Any]:
        """All that its result depends on, apart from code and the configs that its own is based on."""
        return {**asdict(self), **changes(self), **data_settings(REGIMES[self.regime])}
