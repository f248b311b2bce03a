"""How good CBN's correction of earlier statistics is along a training run (arXiv 2002.05712, eq. 7, 8)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from math import sqrt
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ...layers.conv_call import read_call, read_weights
from ...ops import (
    Derivatives,
    Moments,
    PastMoments,
    batch_moments,
    compensate,
    intercepts,
    mean_derivative,
    variance_derivative,
)
from .normalized_convolutions import Call, record_normalized_convolutions

ESTIMATES = ('none', 'linear', 'quadratic')
"""What stands in for the statistics of an earlier batch under today's weights. They themselves (Naive CBN),
CBN's correction, or the earlier input of the layer convolved with today's filter."""

LossFunction = Callable[[nn.Module, Any], Tensor]


class Averages(NamedTuple):
    """Errors of shape (lags or iterations, estimates), and the spreads to compare them with."""

    mean: np.ndarray
    var: np.ndarray
    mean_spread: np.ndarray
    var_spread: np.ndarray


@dataclass(frozen=True)
class CorrectionErrors:
    """Errors of the estimates of earlier statistics, averaged over the channels of each layer.

    The error of a mean is in units of the standard deviation, that of a variance relative to the variance.
    Both are those of the true statistics, with the norm's eps in the variance.

    Attributes:
        iterations: When it was measured, counted from 1.
        lags: How many iterations earlier the batches were seen.
        layers: Names of the convolutions, in order of execution.
        mean: Error of the mean, shape (iterations, lags, layers, estimates), :data:`ESTIMATES`.
        var: Error of the variance, likewise.
        mean_spread: How far the mean of one batch is from the average over the batches of all lags,
            shape (iterations, layers): the noise that averaging over a window is there to remove.
        var_spread: The same for the variance.
        losses: The training loss of each iteration before the last probe: a run that does not learn has small
            errors too.
    """

    iterations: list[int]
    lags: list[int]
    layers: list[str]
    mean: np.ndarray
    var: np.ndarray
    mean_spread: np.ndarray
    var_spread: np.ndarray
    losses: list[float]

    def over_lags(self) -> Averages:
        """Average over the layers and the later half of the probes; lags stay as the first axis."""
        late = slice(len(self.iterations) // 2, None)
        mean, var = (part[late].mean((0, 2)) for part in (self.mean, self.var))
        return Averages(mean, var, self.mean_spread[late].mean(), self.var_spread[late].mean())

    def over_iterations(self) -> Averages:
        """Average over the layers at the largest lag; iterations stay as the first axis."""
        mean, var = (part[:, -1].mean(1) for part in (self.mean, self.var))
        return Averages(mean, var, self.mean_spread.mean(1), self.var_spread.mean(1))


@dataclass(frozen=True)
class _Entry:
    """What CBN keeps of a layer and a batch, and the layer's input."""

    input: Tensor
    moments: Moments
    derivatives: Derivatives
    intercepts: PastMoments


@dataclass(frozen=True)
class _Snapshot:
    """An iteration before its step: the model with the state of its norms, the batch, its statistics."""

    model: nn.Module
    batch: Any
    seed: int
    entries: Mapping[str, _Entry]


def measure_correction(
    model: nn.Module,
    batches: Iterable[Any],
    optimizer: Optimizer,
    loss_function: LossFunction,
    lags: Collection[int],
    probes: Collection[int],
) -> CorrectionErrors:
    """Train a model, and measure at some iterations how well earlier statistics can be corrected.

    The truth at lag s is the statistics of the batch of iteration t - s, recomputed by the whole network with
    the weights of iteration t. In between, each norm does what it did at iteration t - s: a CBN layer has
    the window that it had then. So the weights are all that has changed.

    Correction, truth and doing nothing are measured on copies: the model trains as it would have without.

    Args:
        model: In training mode. Its norms are whatever the run trains with; no window need be open for the
            correction to be measured.
        batches: The training batches, one an iteration.
        optimizer: Of the parameters of ``model``.
        loss_function: Returns the loss of the model on a batch.
        lags: At least 1 each; a window of size k has 1 to k - 1.
        probes: Iterations at which to measure, counted from 1, above the largest lag. The step of the
            iteration comes afterwards.

    Returns:
        The errors at the probes that the batches reached.

    Raises:
        ValueError: ``lags`` or ``probes`` are out of range, or no probe was reached, or the model has no
            convolution that is directly followed by a batch norm in training mode.
    """
    lags, probes = sorted(set(lags)), set(probes)
    if not lags or lags[0] < 1:
        raise ValueError(f'lags must be at least 1, got {lags}')
    if not probes or min(probes) <= lags[-1]:
        raise ValueError(
            f'probes must be above the largest lag, {lags[-1]}, got {sorted(probes)[:1] or "none"}'
        )
    wanted = {probe - lag for probe in probes for lag in lags}
    past: dict[int, _Snapshot] = {}
    measured, losses = {}, []
    for iteration, batch in enumerate(batches, 1):
        if iteration in probes:
            measured[iteration] = _probe(model, [past[iteration - lag] for lag in lags], loss_function)
        if iteration in wanted:
            past[iteration] = _take_snapshot(model, batch, iteration, loss_function)
        past.pop(iteration - lags[-1], None)
        if iteration == max(probes):
            break
        optimizer.zero_grad()
        loss = loss_function(model, batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    if not measured:
        raise ValueError(f'the batches ended before the first probe, iteration {min(probes)}')
    mean, var, mean_spread, var_spread = (
        np.stack(parts) for parts in zip(*(errors for _, errors in measured.values()), strict=True)
    )
    layers = next(iter(measured.values()))[0]
    return CorrectionErrors(list(measured), lags, layers, mean, var, mean_spread, var_spread, losses)


def _take_snapshot(model: nn.Module, batch: Any, seed: int, loss_function: LossFunction) -> _Snapshot:
    calls = _run(deepcopy(model), batch, seed, loss_function)
    return _Snapshot(deepcopy(model), batch, seed, {call.name: _enter(call) for call in calls})


@torch.no_grad()
def _run(model: nn.Module, batch: Any, seed: int, loss_function: LossFunction) -> list[Call]:
    """Run a copy of the model, with the same random numbers (dropout) for the same seed."""
    with torch.random.fork_rng(), record_normalized_convolutions(model) as calls:
        torch.manual_seed(seed)
        loss_function(model, batch)
    if not calls:
        raise ValueError(
            f'{type(model).__name__} has no convolution that is directly followed by a batch norm in '
            'training mode, so there are no batch statistics to correct'
        )
    return calls


@torch.no_grad()
def _enter(call: Call) -> _Entry:
    moments = batch_moments(call.output)
    conv_call = read_call(call.conv, call.input, moments.mean.dtype)
    of_mean = mean_derivative(conv_call, (call.output.size(2), call.output.size(3)))
    of_var = variance_derivative(conv_call, call.output, moments, of_mean)
    derivatives = Derivatives(of_mean[:, None], of_var[:, None])
    row = PastMoments(*(moment[:, None] for moment in moments))
    constants = intercepts(row, derivatives, conv_call.theta, conv_call.bias)
    return _Entry(call.input, moments, derivatives, constants)


@torch.no_grad()
def _probe(
    model: nn.Module, snapshots: Sequence[_Snapshot], loss_function: LossFunction
) -> tuple[list[str], tuple[np.ndarray, ...]]:
    """Return names of layers, errors of mean and variance (lags, layers, estimates), spreads (layers,)."""
    errors, truths = [], []
    for snapshot in snapshots:
        today = deepcopy(snapshot.model)
        for parameter, current in zip(today.parameters(), model.parameters(), strict=True):
            parameter.copy_(current)
        calls = _run(today, snapshot.batch, snapshot.seed, loss_function)
        true = [batch_moments(call.output) for call in calls]
        truths.append(true)
        errors.append(
            [
                [
                    _error(estimate, truth, call.eps)
                    for estimate in _estimates(snapshot.entries[call.name], call)
                ]
                for call, truth in zip(calls, true, strict=True)
            ]
        )
    spreads = [_spread([truth[layer] for truth in truths], call.eps) for layer, call in enumerate(calls)]
    both, spread = np.array(errors), np.array(spreads)
    return [call.name for call in calls], (both[..., 0], both[..., 1], spread[:, 0], spread[:, 1])


def _estimates(entry: _Entry, call: Call) -> list[tuple[Tensor, Tensor]]:
    """Return mean and variance in the order of ESTIMATES; the convolution of ``call`` has today's weights."""
    weight, bias = read_weights(call.conv, entry.moments.mean.dtype)
    measured = entry.moments.mean[:, None]
    mean, var = compensate(measured, entry.intercepts, entry.derivatives, weight.flatten(1), bias)
    linear = (mean[:, 0], var[:, 0].clamp(min=0))  # the maximum of eq. 10
    return [entry.moments, linear, batch_moments(call.conv(entry.input))]


def _error(estimate: tuple[Tensor, Tensor], truth: tuple[Tensor, Tensor], eps: float) -> tuple[float, float]:
    (mean, var), (true_mean, true_var) = estimate, truth
    scale = true_var + eps
    of_mean = (mean - true_mean).abs() / scale.sqrt()
    return of_mean.mean().item(), ((var - true_var).abs() / scale).mean().item()


def _spread(truths: Sequence[tuple[Tensor, Tensor]], eps: float) -> tuple[float, float]:
    mean, var = (torch.stack(part) for part in zip(*truths, strict=True))
    if len(truths) == 1:
        return float('nan'), float('nan')
    centre = (mean.mean(0), var.mean(0))
    # The average is nearer to its own parts than the expectation is.
    factor = sqrt(len(truths) / (len(truths) - 1))
    parts = [_error(truth, centre, eps) for truth in zip(mean, var, strict=True)]
    of_mean, of_var = (factor * sum(part) / len(part) for part in zip(*parts, strict=True))
    return of_mean, of_var
