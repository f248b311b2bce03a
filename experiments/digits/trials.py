"""One trial of the study: a network trained with one method, batch size, learning rate and seed.

Training follows the detectors' schedule in small: 12 epochs of fresh samples, SGD with momentum, a learning
rate in proportion to the images of an iteration (the linear rule), warmed up over the first half epoch and
divided by 10 after epochs 8 and 11. All but the learning rate is the same for all methods.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ..common.running_statistics import SlowStatistics
from .evaluation import evaluate, use_population_statistics
from .network import build_network, make_replicas
from .norms import COMPETITORS, SYNC, make_norm
from .task import Samples, batches, held_out_samples, training_samples

EPOCHS = 12
LEARNING_RATE = 0.003  # for each image of a batch, where nothing is compared over it
MOMENTUM = 0.9
WEIGHT_DECAY = 1e-4
WARM_UP_EPOCHS = 0.5
STEPS = (8, 11)


@dataclass(frozen=True)
class Trial:
    """What distinguishes one trial from the others.

    Args:
        method: A name in ``COMPETITORS``.
        batch_size: Images of one worker in an iteration.
        seed: Of the initial weights and of the samples.
        images: Training samples an epoch.
        window_size: k; 1 for methods without a window.
        burn_in: Epochs before the window is used; 0 for methods without.
        workers: How many share an iteration, each with norm layers of its own.
        rate: Learning rate for each image of an iteration.
        split: What it is evaluated on after each epoch, 'validation' or 'test'.
        held_out: Samples of that; population statistics are of twice as many of the training digits.
    """

    method: str
    batch_size: int
    seed: int
    images: int
    window_size: int = 1
    burn_in: int = 0
    workers: int = 1
    rate: float = LEARNING_RATE
    split: str = 'test'
    held_out: int = 1000

    @property
    def name(self) -> str:
        """The settings as one word."""
        window = f'_k{self.window_size}_burn-in{self.burn_in}' if COMPETITORS[self.method].window_size else ''
        workers = f'_workers{self.workers}' if self.workers > 1 else ''
        shared = f'{self.method}_batch{self.batch_size}{workers}{window}_images{self.images}'
        return f'{shared}_rate{self.rate:g}_{self.split}_seed{self.seed}'

    @property
    def iteration_images(self) -> int:
        """Images an iteration."""
        return self.batch_size * self.workers

    @property
    def iterations(self) -> int:
        """Iterations an epoch."""
        return math.ceil(self.images / self.iteration_images)

    @property
    def all_iterations(self) -> int:
        """Iterations of the whole run."""
        return EPOCHS * self.iterations

    @property
    def replicas(self) -> int:
        """Networks with norm states of their own: SyncBN has one state for all workers."""
        return 1 if self.method == SYNC else self.workers

    @property
    def settings(self) -> dict[str, Any]:
        """All that its result depends on, apart from the code of layers and network."""
        return asdict(self) | {
            'epochs': EPOCHS,
            'learning_rate': self.rate * self.iteration_images,
            'momentum': MOMENTUM,
            'weight_decay': WEIGHT_DECAY,
            'warm_up_epochs': WARM_UP_EPOCHS,
            'steps': list(STEPS),
            'norm': repr(_make_norm(self)(16)),
            'conv': COMPETITORS[self.method].conv.__name__,
        }


class Training:
    """The networks of a trial and what trains them.

    Args:
        trial: Its settings.
        device: Where it trains. Weights and samples are those of the CPU.

    Attributes:
        network: The one that is evaluated: the first worker's.
    """

    def __init__(self, trial: Trial, device: str = 'cpu') -> None:
        self.network = build_network(_make_norm(trial), COMPETITORS[trial.method].conv, trial.seed).to(device)
        self.replicas = make_replicas(self.network, trial.replicas)
        self.optimizer = make_optimizer(self.network, lr=0.0)
        self.slow_statistics = SlowStatistics(self.network, trial.iteration_images // trial.replicas)

    def step(self, samples: Samples, lr: float) -> float:
        """Train on the samples of an iteration; return the loss, where it is inf or nan without a step.

        Each worker has an equal share of them, or one more than others, and its mean loss counts as much as
        theirs: their gradients are averaged.
        """
        shares = [part.tensor_split(len(self.replicas)) for part in samples]
        losses = [
            F.cross_entropy(replica(images), labels)
            for replica, images, labels in zip(self.replicas, *shares, strict=True)
            if len(labels)
        ]
        loss = torch.stack(losses).mean()
        value = loss.item()
        if math.isfinite(value):
            self.slow_statistics.update()
            self.optimizer.param_groups[0]['lr'] = lr
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        return value


def run_trial(trial: Trial, device: str = 'cpu') -> dict[str, Any]:
    """Train and evaluate a network.

    On one CPU thread the result is the same in each run, apart from ``seconds``.

    Args:
        trial: Its settings.
        device: Where it trains. Weights and samples are those of the CPU.

    Returns:
        ``torch``, its version; ``diverged``, the epoch, counted from 1, in which the training loss became inf
        or nan and the trial ended, or None; ``seconds``; one value an epoch of ``training_loss`` (mean
        over the samples, in training mode), ``held_out_loss`` and ``accuracy`` (samples of the split in
        evaluation mode, so with running statistics; a share from 0 to 1), and a last one, where it did not
        diverge, of ``slow_accuracy`` and ``population_accuracy``, with the running statistics of a momentum
        that suits the batch and with population statistics. A held-out loss that is not finite is None.
    """
    start = time.perf_counter()
    training = Training(trial, device)
    network = training.network
    held_out = _to(device, held_out_samples(trial.split, trial.held_out))
    result: dict[str, Any] = {'torch': torch.__version__, 'diverged': None}
    curves = {name: [] for name in ('training_loss', 'held_out_loss', 'accuracy')}
    last = {'slow_accuracy': [], 'population_accuracy': []}
    for epoch in range(EPOCHS):
        training_loss = _train_epoch(training, trial, epoch, device)
        if not math.isfinite(training_loss):
            result['diverged'] = epoch + 1
            break
        for curve, value in zip(curves.values(), (training_loss, *evaluate(network, held_out)), strict=True):
            curve.append(value)
    else:
        training.slow_statistics.put_in_place()
        last['slow_accuracy'].append(evaluate(network, held_out)[1])
        # Of an epoch that the run did not have.
        population = training_samples(trial.seed, EPOCHS, 2 * trial.held_out)
        use_population_statistics(network, population.images.to(device))
        last['population_accuracy'].append(evaluate(network, held_out)[1])
    return result | curves | last | {'seconds': round(time.perf_counter() - start, 1)}


def make_optimizer(network: nn.Module, lr: float) -> torch.optim.SGD:
    """Return the optimizer that all runs on digits share."""
    return torch.optim.SGD(network.parameters(), lr, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)


def learning_rate(trial: Trial, iteration: int) -> float:
    """Return the learning rate of an iteration, counted from 0."""
    epochs = iteration / trial.iterations
    warm_up = min(1.0, (iteration + 1) / (WARM_UP_EPOCHS * trial.iterations))
    return trial.rate * trial.iteration_images * warm_up * 0.1 ** sum(epochs >= step for step in STEPS)


def _make_norm(trial: Trial) -> Any:
    burn_in = trial.burn_in * trial.iterations
    return make_norm(trial.method, trial.window_size, burn_in, EPOCHS * trial.iterations)


def _train_epoch(training: Training, trial: Trial, epoch: int, device: str) -> float:
    """Return the mean loss, or the first one that is not finite."""
    for replica in training.replicas:
        replica.train()
    total = 0.0
    epoch_batches = batches(trial.seed, epoch, trial.iteration_images, trial.images)
    for iteration, samples in enumerate(epoch_batches, epoch * trial.iterations):
        value = training.step(_to(device, samples), learning_rate(trial, iteration))
        if not math.isfinite(value):
            return value
        total += value * len(samples.labels)
    return total / trial.images


def _to(device: str, samples: Sequence[torch.Tensor]) -> Samples:
    return Samples(*(part.to(device) for part in samples))
