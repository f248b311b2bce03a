"""One trial of the study: a network trained with one method, batch size and seed.

Training follows the detectors' schedule in small: 12 epochs of fresh samples, SGD with momentum, a learning
rate in proportion to the batch size (the linear rule), warmed up over the first half epoch and divided by 10
after epochs 8 and 11. It is the same for all methods.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .network import build_network
from .norms import COMPETITORS, make_norm
from .task import batches, held_out_samples

EPOCHS = 12
LEARNING_RATE = 0.003  # for each image of a batch: 0.096 at batch size 32
MOMENTUM = 0.9
WEIGHT_DECAY = 1e-4
WARM_UP_EPOCHS = 0.5
STEPS = (8, 11)
HELD_OUT = 1000  # samples of the evaluation after each epoch


@dataclass(frozen=True)
class Trial:
    """What distinguishes one trial from the others.

    Args:
        method: A name in ``COMPETITORS``.
        batch_size: Images an iteration.
        seed: Of the initial weights and of the samples.
        images: Training samples an epoch.
        window_size: k; 1 for methods without a window.
        burn_in: Epochs before the window is used; 0 for methods without.
    """

    method: str
    batch_size: int
    seed: int
    images: int
    window_size: int = 1
    burn_in: int = 0

    @property
    def name(self) -> str:
        """The settings as one word."""
        window = f'_k{self.window_size}_burn-in{self.burn_in}' if COMPETITORS[self.method].has_window else ''
        return f'{self.method}_batch{self.batch_size}{window}_images{self.images}_seed{self.seed}'

    @property
    def iterations(self) -> int:
        """Iterations an epoch."""
        return math.ceil(self.images / self.batch_size)

    @property
    def settings(self) -> dict[str, Any]:
        """All that its result depends on, apart from the code of layers and network."""
        return asdict(self) | {
            'epochs': EPOCHS,
            'learning_rate': LEARNING_RATE * self.batch_size,
            'momentum': MOMENTUM,
            'weight_decay': WEIGHT_DECAY,
            'warm_up_epochs': WARM_UP_EPOCHS,
            'steps': list(STEPS),
            'held_out': HELD_OUT,
            'norm': repr(_make_norm(self)(16)),
            'conv': COMPETITORS[self.method].conv.__name__,
        }


def run_trial(trial: Trial, device: str = 'cpu') -> dict[str, Any]:
    """Train and evaluate a network.

    On one CPU thread the result is the same in each run, apart from ``seconds``.

    Args:
        trial: Its settings.
        device: Where it trains. Weights and samples are those of the CPU.

    Returns:
        ``torch``, its version; ``diverged``, the epoch, counted from 1, in which the training loss became inf
        or nan and the trial ended, or None; ``seconds``; and one value an epoch of ``training_loss`` (mean
        over the samples, in training mode), ``held_out_loss`` and ``accuracy`` (held-out samples in
        evaluation mode, so with running statistics; a share from 0 to 1). A held-out loss that is not finite
        is None.
    """
    start = time.perf_counter()
    network = build_network(_make_norm(trial), COMPETITORS[trial.method].conv, trial.seed).to(device)
    optimizer = make_optimizer(network, lr=0.0)
    result: dict[str, Any] = {'torch': torch.__version__, 'diverged': None}
    curves = {name: [] for name in ('training_loss', 'held_out_loss', 'accuracy')}
    for epoch in range(EPOCHS):
        training_loss = _train_epoch(network, optimizer, trial, epoch)
        if not math.isfinite(training_loss):
            result['diverged'] = epoch + 1
            break
        held_out_loss, accuracy = _evaluate(network)
        curves['training_loss'].append(training_loss)
        curves['held_out_loss'].append(held_out_loss if math.isfinite(held_out_loss) else None)
        curves['accuracy'].append(accuracy)
    return result | curves | {'seconds': round(time.perf_counter() - start, 1)}


def make_optimizer(network: nn.Module, lr: float) -> torch.optim.SGD:
    """Return the optimizer that all runs on digits share."""
    return torch.optim.SGD(network.parameters(), lr, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)


def learning_rate(trial: Trial, iteration: int) -> float:
    """Return the learning rate of an iteration, counted from 0."""
    epochs = iteration / trial.iterations
    warm_up = min(1.0, (iteration + 1) / (WARM_UP_EPOCHS * trial.iterations))
    return LEARNING_RATE * trial.batch_size * warm_up * 0.1 ** sum(epochs >= step for step in STEPS)


def _make_norm(trial: Trial) -> Any:
    burn_in = trial.burn_in * trial.iterations
    return make_norm(trial.method, trial.window_size, burn_in, EPOCHS * trial.iterations)


def _train_epoch(network: nn.Module, optimizer: torch.optim.SGD, trial: Trial, epoch: int) -> float:
    """Return the mean loss, or the first one that is not finite."""
    network.train()
    total = 0.0
    samples = batches(trial.seed, epoch, trial.batch_size, trial.images)
    device = _device(network)
    for iteration, (images, labels) in enumerate(samples, epoch * trial.iterations):
        images, labels = images.to(device), labels.to(device)
        optimizer.param_groups[0]['lr'] = learning_rate(trial, iteration)
        loss = F.cross_entropy(network(images), labels)
        value = loss.item()
        if not math.isfinite(value):
            return value
        total += value * len(labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return total / trial.images


@torch.no_grad()
def _evaluate(network: nn.Module) -> tuple[float, float]:
    """Return loss and accuracy on the held-out samples."""
    network.eval()
    images, labels = (part.to(_device(network)) for part in held_out_samples(HELD_OUT))
    scores = torch.cat([network(part) for part in images.split(250)])
    return F.cross_entropy(scores, labels).item(), (scores.argmax(1) == labels).double().mean().item()


def _device(network: nn.Module) -> torch.device:
    return next(network.parameters()).device
