"""How the cost of CBN grows: with the window, the channels and the images, beside BN."""

from dataclasses import dataclass, replace
from statistics import median

import torch

from ..common.methods import METHODS, Method
from .layers import FILL, Case, Setting, make_block, training_step
from .measuring import MIN_SECONDS, interleave, kept_bytes, peak_memory, ratio
from .norms import REFERENCE

NORMS = {
    REFERENCE: METHODS['bn'],
    'ring': METHODS['cbn'],
    'exponential': METHODS['cbn-exponential'],
    'exponential, fraction 1/8': replace(
        METHODS['cbn'], arguments={'averaging': 'exponential', 'derivative_fraction': 1 / 8}
    ),
}
# One of the three changes, the others are these.
WINDOW, CHANNELS, IMAGES = 8, 128, 4
AXES = {
    'window_size': (2, 4, 8, 16, 32, 64),
    'channels': (32, 64, 128, 256),
    'images': (1, 2, 4, 8, 16),
}


@dataclass(frozen=True)
class Point:
    """One norm at one size.

    Attributes:
        axis: What is varied.
        value: To how much.
        norm: Key of :data:`NORMS`.
        train_ms: Median time of a training step of convolution + norm + ReLU.
        train_ratio: The same beside BN.
        peak_ratio: Memory at the peak of the step beside BN's, what the layer keeps included.
        kept_weights: What the layer keeps between iterations beyond BN, in sizes of the weights.
    """

    axis: str
    value: int
    norm: str
    train_ms: float
    train_ratio: float
    peak_ratio: float
    kept_weights: float


def benchmark_growth(setting: Setting, rounds: int, seconds: float = MIN_SECONDS) -> list[Point]:
    """Measure along every axis: a 3x3 convolution on maps of 28 x 28.

    Args:
        setting: Device, type and memory format.
        rounds: See :func:`interleave`.
        seconds: Likewise.
    """
    return [
        point
        for axis, values in AXES.items()
        for value in values
        for point in _measure(axis, value, setting, rounds, seconds)
    ]


def _measure(axis: str, value: int, setting: Setting, rounds: int, seconds: float) -> list[Point]:
    sizes = {'window_size': WINDOW, 'channels': CHANNELS, 'images': IMAGES, axis: value}
    case = Case((sizes['images'], sizes['channels'], 28, 28), 3)
    x = torch.randn(case.shape, device=setting.device).to(memory_format=setting.memory_format)
    norms = {name: _sized(norm, sizes['window_size']) for name, norm in NORMS.items()}
    blocks = {name: make_block(norm, case, setting) for name, norm in norms.items()}
    steps = {name: training_step(block, x, setting) for name, block in blocks.items()}
    for step in steps.values():
        for _ in range(FILL):
            step()
    seconds_of = interleave(steps, rounds, f'{axis} {value}', seconds)
    kept = {name: kept_bytes(block[1]) for name, block in blocks.items()}
    peak = {name: peak_memory(step, setting.device) + kept[name] for name, step in steps.items()}
    weights = blocks[REFERENCE][0].weight
    return [
        Point(
            axis=axis,
            value=value,
            norm=name,
            train_ms=1e3 * median(seconds_of[name]),
            train_ratio=ratio(seconds_of, name, REFERENCE),
            peak_ratio=peak[name] / peak[REFERENCE],
            kept_weights=(kept[name] - kept[REFERENCE]) / (weights.numel() * weights.element_size()),
        )
        for name in blocks
    ]


def _sized(norm: Method, window_size: int) -> Method:
    if not norm.window_size:
        return norm
    return replace(norm, arguments={**norm.arguments, 'window_size': window_size})
