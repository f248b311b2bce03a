"""How much a layer's statistics depend on the weights of earlier layers (CBN, arXiv 2002.05712, Figure 6).

CBN corrects the statistics of a layer for the change of its own weights and neglects the layers before.
That is right as far as the Jacobians of the statistics by earlier weights are small beside the Jacobian by
the layer's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn

from .normalized_convolutions import Call, record_normalized_convolutions

STATISTICS = ('mean', 'mean_square')
"""mu and nu of the paper, which are the means of a channel and of its square."""


@dataclass(frozen=True)
class Ratio:
    """A ratio of Frobenius norms, ||d s^l / d theta^r|| / ||d s^l / d theta^l||.

    Attributes:
        layer: Name of the convolution l.
        statistic: What s is, of :data:`STATISTICS`.
        distance: l - r.
        earlier: Name of the convolution r.
        value: The ratio.
        standard_error: Of ``value``; 0 where it is exact.
    """

    layer: str
    statistic: str
    distance: int
    earlier: str
    value: float
    standard_error: float


@dataclass(frozen=True)
class MeanRatio:
    """Ratios averaged over the layers.

    Attributes:
        statistic: See :class:`Ratio`.
        distance: See :class:`Ratio`.
        layers: How many there are.
        value: The mean over them.
        standard_error: Of ``value``, from the projections alone.
        largest: The largest of the ratios.
    """

    statistic: str
    distance: int
    layers: int
    value: float
    standard_error: float
    largest: Ratio


def gradient_ratios(
    model: nn.Module,
    forward: Callable[[nn.Module], Any],
    projections: int = 64,
    distances: Iterable[int] = (1, 2),
    progress: Callable[[Iterable[Call]], Iterable[Call]] = iter,
) -> list[Ratio]:
    """Measure how strongly the statistics of each layer depend on earlier weights.

    A layer is a convolution whose output is normalized by batch statistics, and theta are its weight and
    bias. The Jacobians hold all channels as rows and go through the norms in between as they train. A copy of
    the model is measured: running statistics, counters and windows stay as they are.

    Layer l - 1 is the one before l on the longest path that leads from the input to l, counted in layers, and
    l - 2 the one before that. In a plain network this is the order of execution. In a residual network it
    follows the residual branches, in an Inception block the longest branch; of two such layers the one
    that is executed later counts. (By order of execution alone, a shortcut's convolution would follow the
    last one of the block, on which it does not depend.)

    The norm by the layer's own weights is exact, because channel j depends on filter j alone. For an earlier
    layer it is exact, one backward pass a channel, where there are at most ``projections`` channels. Else
    it is estimated from E ||v^T J||^2 = ||J||^2 with vectors v of random signs, whose spread over v
    tells the standard error.

    Not meant for MABN, whose backward pass is not the derivative of its forward pass.

    Args:
        model: Any module with batch norms, or layers derived from them, behind convolutions.
        forward: Runs the model that it is given on the batch; what it returns is not used.
        projections: Most backward passes a layer and statistic, at least 2.
        distances: Which l - r to measure.
        progress: Goes over the layers for the caller, as ``tqdm`` does to show how far it is.

    Returns:
        For each layer, statistic and distance a ratio, layers in order of execution. The first layers have no
        earlier ones.

    Raises:
        ValueError: ``projections`` is below 2, or no layer was found in the forward pass.
    """
    if projections < 2:
        raise ValueError(f'projections must be at least 2, got {projections}')
    model = deepcopy(model).train()
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.requires_grad_(True)  # frozen weights have a Jacobian all the same
    with torch.enable_grad(), record_normalized_convolutions(model) as calls:
        forward(model)
    if not calls:
        raise ValueError(
            f'{type(model).__name__} has no convolution that is directly followed by a batch norm in '
            'training mode, so there are no batch statistics to differentiate'
        )
    before = _previous_layers(calls)
    ratios = []
    for layer, call in enumerate(progress(calls)):
        earlier = {}
        for distance in distances:
            chain: int | None = layer
            for _ in range(distance):
                chain = None if chain is None else before.get(chain)
            if chain is not None:
                earlier[distance] = calls[chain]
        for statistic in STATISTICS if earlier else ():
            ratios += _layer_ratios(call, statistic, earlier, projections)
    return ratios


def mean_ratios(ratios: Sequence[Ratio]) -> list[MeanRatio]:
    """Average ratios over the layers, for each statistic and distance: the bars of the paper's figure.

    Args:
        ratios: What :func:`gradient_ratios` returned.
    """
    means = []
    for statistic, distance in dict.fromkeys((ratio.statistic, ratio.distance) for ratio in ratios):
        group = [ratio for ratio in ratios if (ratio.statistic, ratio.distance) == (statistic, distance)]
        value = sum(ratio.value for ratio in group) / len(group)
        error = sqrt(sum(ratio.standard_error**2 for ratio in group)) / len(group)
        largest = max(group, key=lambda ratio: ratio.value)
        means.append(MeanRatio(statistic, distance, len(group), value, error, largest))
    return sorted(means, key=lambda mean: (mean.statistic, mean.distance))


def _previous_layers(calls: Sequence[Call]) -> dict[int, int]:
    """Return for each layer that has one the layer before it on the longest path, by their positions."""
    layers = {call.output.grad_fn: number for number, call in enumerate(calls)}
    depth: list[int] = []
    previous: dict[int, int] = {}
    for number, call in enumerate(calls):
        direct = _direct_predecessors(call.output.grad_fn, layers)
        if direct:
            previous[number] = max(direct, key=lambda layer: (depth[layer], layer))
        depth.append(depth[previous[number]] + 1 if direct else 0)
    return previous


def _direct_predecessors(start: Any, layers: dict[Any, int]) -> set[int]:
    """Walk the graph of autograd back from a node to the nearest layers on all ways."""
    found, seen, stack = set(), {start}, [start]
    while stack:
        for node, _ in stack.pop().next_functions:
            if node is None or node in seen:
                continue
            seen.add(node)
            if node in layers:
                found.add(layers[node])
            else:
                stack.append(node)
    return found


def _layer_ratios(call: Call, statistic: str, earlier: dict[int, Call], projections: int) -> list[Ratio]:
    y = call.output
    values = (y if statistic == 'mean' else y.square()).mean((0, 2, 3))
    # Channel j depends on filter j alone: the sum over channels keeps every row of the Jacobian apart.
    own = _squared_norm(torch.autograd.grad(values.sum(), list(call.conv.parameters()), retain_graph=True))
    weights = [list(other.conv.parameters()) for other in earlier.values()]
    squares, errors = _squared_jacobian_norms(values, weights, projections)
    return [
        Ratio(
            layer=call.name,
            statistic=statistic,
            distance=distance,
            earlier=other.name,
            value=sqrt(square / own) if own else float('nan'),  # nan: an input of zeros
            standard_error=error / (2 * sqrt(square * own)) if error else 0.0,
        )
        for (distance, other), square, error in zip(earlier.items(), squares, errors, strict=True)
    ]


def _squared_jacobian_norms(
    values: Tensor, weights: Sequence[Sequence[Tensor]], projections: int
) -> tuple[list[float], list[float]]:
    """Return the squared Frobenius norms of d values / d weights and their standard errors."""
    channels = values.numel()
    exact = channels <= projections
    if exact:
        rows = torch.eye(channels, dtype=values.dtype, device=values.device)
    else:
        # E v v^T = 1 as for Gaussian vectors, at a smaller variance.
        rows = 2.0 * torch.randint(2, (projections, channels)).to(values) - 1.0
    flat = [weight for group in weights for weight in group]
    squares = torch.zeros(len(rows), len(weights), dtype=torch.float64)
    for number, row in enumerate(rows):
        grads = iter(torch.autograd.grad(values, flat, row, retain_graph=True, allow_unused=True))
        for place, group in enumerate(weights):
            squares[number, place] = _squared_norm([next(grads) for _ in group])
    if exact:
        return squares.sum(0).tolist(), [0.0] * len(weights)
    return squares.mean(0).tolist(), (squares.std(0) / sqrt(projections)).tolist()


def _squared_norm(tensors: Iterable[Tensor | None]) -> float:
    return sum(tensor.double().square().sum().item() for tensor in tensors if tensor is not None)
