"""What the statistics of batch norms do along a training run (MABN, Figures 2 to 4)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...layers import CrossIterationBatchNorm2d, MovingAverageBatchNorm2d, StatefulNorm
from ...layers.arguments import check_integer
from ...ops import batch_moments, normalize
from ...ops.torch_private import backward_pass, batch_norm_backward
from .file import LayerStatistics, write_statistics

_WAITING = 1000  # records that wait on the device for their way to the host

Statistics = dict[str, Tensor]


class StatisticsRecorder:
    r"""Records what batch norms normalize by, in the forward and in the backward pass.

    For x, the input of a layer, and the normalized :math:`\hat y = (x - mean) / \sqrt{var + eps}` in front of
    gamma and beta, the MABN paper's statistics are, per channel over (N, H, W):

    - ``mean``, ``var``, ``chi2``: :math:`\mu_B`, :math:`\sigma_B^2` and :math:`\chi_B^2` of x;
    - ``g``, ``psi``: the means :math:`g_B` of :math:`\partial L / \partial \hat y` and :math:`\Psi_B` of
      :math:`\hat y \, \partial L / \partial \hat y`, with
      :math:`\partial L / \partial \hat y = \gamma \, \partial L / \partial out`.

    What a layer of this package puts in the place of the batch's is recorded as ``mean_in_use`` and
    ``var_in_use``, for MABN as ``chi2_in_use`` and ``psi_in_use``. It also makes :math:`\hat y`, so that
    out = gamma * y_hat + beta holds for each layer: with BN's batch statistics, CBN's over the window,
    BRN's with r and d, and mean 0 and MABN's chi2 with r. Recorded is the l2 norm over the channels.

    Of CBN, once the window is open, there are two more values that tell about the earlier entries in
    the average: ``clamped``, the share of their channels whose variance was extrapolated below 0, and
    ``compensation``, the size of the correction in standard deviations (:meth:`.Window.diagnose`).

    Each training forward with a graph counts, frozen layers and empty batches do not. Within a backward
    pass nothing counts: so activation checkpointing with ``use_reentrant=False`` counts once, but layers
    under the other kind (MMDetection's ``with_cp``) not at all. A shared head has a record for each of its
    calls. ``torch.nn.SyncBatchNorm`` is left out. The batch of a layer with ``sync=True`` is that of this
    process. With a loss scale, ``g`` and ``psi`` are scaled.

    What it costs: two passes over the activations of a layer that is recorded, whose input stays in memory
    until its backward pass; one transfer to the host every few hundred records; nothing outside of the
    ``with`` block, where the model has no hooks. The training itself is not altered.

    Args:
        model: Any module.
        layers: Patterns (``fnmatch``) for the names of batch norms in the model.
        interval: Record each n-th training forward of a layer, from the first one.
        limit: Most records of a layer: then every second one goes, and the interval doubles.

    Raises:
        ValueError: A pattern matches no batch norm, or a number is out of its range.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
        >>> with StatisticsRecorder(model) as recorder:
        ...     model(torch.randn(2, 3, 16, 16)).square().mean().backward()
        >>> sorted(recorder.statistics()['1'].records)
        ['call', 'chi2', 'g', 'mean', 'psi', 'var']
    """

    def __init__(
        self, model: nn.Module, layers: Sequence[str] = ('*',), interval: int = 1, limit: int = 2000
    ) -> None:
        check_integer('interval', interval, 1)
        check_integer('limit', limit, 2)
        self._model = model
        self._layers = [
            _Layer(name, norm, interval, limit)
            for name, norm in _matching(model, (layers,) if isinstance(layers, str) else layers)
        ]
        self._waiting: list[tuple[_Table, int, tuple[str, ...], Tensor]] = []
        self._handles: list[Any] = []

    def __enter__(self) -> StatisticsRecorder:
        """Put hooks on the layers.

        Raises:
            RuntimeError: They are there already.
        """
        if self._handles:
            raise RuntimeError('this StatisticsRecorder records already')
        for layer in self._layers:
            conv = _convolution(self._model, layer)
            if conv is not None:
                self._handles.append(layer.norm.register_forward_pre_hook(partial(_diagnose, layer, conv)))
            self._handles.append(layer.norm.register_forward_hook(partial(self._record, layer)))
        return self

    def __exit__(self, *_: object) -> None:
        """Take the hooks away; a second time, there are none."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def statistics(self) -> dict[str, LayerStatistics]:
        """Return what was recorded so far, by the names of the layers."""
        self._fetch()
        return {layer.name: layer.statistics() for layer in self._layers}

    def save(self, path: str | Path) -> None:
        """Write what was recorded so far: see :func:`.write_statistics`."""
        write_statistics(self.statistics(), path)

    @contextmanager
    def reference(self) -> Iterator[None]:
        """Measure how far statistics are from those of a larger batch, by a forward pass in this block.

        In the block every batch norm in training mode normalizes by the statistics of the pass itself (MABN
        by its mean of squares), without gradients. Recorded is how far the latest record of each layer is
        from them, as root mean square over the channels: ``mean`` in standard deviations, ``var`` relative to
        the variance, both with eps in the variance; of MABN ``chi2``, relative too. ``mean_in_use`` and its
        like say the same of what the layer had in use: so one sees which is nearer to the larger batch.

        It belongs between a backward pass that is recorded and the step of the optimizer: afterwards the
        weights are others. Layers that run more than once in the block are not measured.

        Parameters, buffers, windows, modes and torch's random state stay as they were. DDP, and modules with
        a memory of their own, do what they do in any forward pass: call the unwrapped model.

        Raises:
            ValueError: Nothing is recorded yet to compare with, or no recorded layer ran in the block.
        """
        if all(layer.latest is None for layer in self._layers):
            raise ValueError(
                'reference() compares with the latest recorded training forward, and there is none yet'
            )
        norms = [m for m in self._model.modules() if isinstance(m, _BatchNorm) and m.training]
        seen: dict[_BatchNorm, list[Statistics]] = defaultdict(list)
        handles = []
        # The attribute, not eval(): a change of mode means something to the layers of this package.
        for norm in norms:
            norm.training = False
            handles.append(norm.register_forward_hook(partial(_normalize_alone, seen)))
        try:
            with torch.no_grad(), torch.random.fork_rng(_cuda_devices(self._model)):
                yield
        finally:
            for norm in norms:
                norm.training = True
            for handle in handles:
                handle.remove()
        measured = [layer for layer in self._layers if layer.latest and len(seen.get(layer.norm, ())) == 1]
        if not measured:
            raise ValueError(
                'no recorded layer ran exactly once in the block of reference(): it takes one forward pass '
                'of the model, in the mode in which it trains'
            )
        for layer in measured:
            event = layer.errors.count()
            if event is not None and layer.latest is not None:
                call, own, used = layer.latest
                layer.errors.write(event, ('call',), np.array([call]))
                self._keep(layer.errors, event, _distances(layer.norm, own, used, seen[layer.norm][0]))

    @torch.no_grad()
    def _record(self, layer: _Layer, norm: _BatchNorm, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        diagnosis, layer.diagnosis = layer.diagnosis, {}
        x, node = inputs[0], output.grad_fn
        if not norm.training or node is None or x.numel() == 0 or backward_pass() is not None:
            return
        call = layer.records.count()
        if call is None:
            return
        own = _moments(x)
        used = norm.statistics_in_use(node) if isinstance(norm, StatefulNorm) else {}
        layer.latest = (call, own, used)
        norms = {name: _norm(values) for name, values in _named(own, used).items()}
        self._keep(layer.records, call, norms | diagnosis)
        node.register_hook(self._backward_hook(layer, call, x.detach(), {**own, **used}, node))

    def _backward_hook(
        self, layer: _Layer, call: int, x: Tensor, statistics: Statistics, node: Any
    ) -> Callable[..., None]:
        """Return what the node of the output calls after its backward pass."""
        norm = layer.norm
        averages = isinstance(norm, MovingAverageBatchNorm2d)
        mean = torch.zeros_like(statistics['mean']) if averages else statistics['mean']
        invstd = (statistics['chi2' if averages else 'var'] + norm.eps).rsqrt()
        held = [x]

        @torch.no_grad()
        def record(_: tuple[Tensor | None, ...], grads: tuple[Tensor | None, ...]) -> None:
            if not held or grads[0] is None:  # a second backward pass over the same graph
                return
            # Whoever keeps the loss keeps the graph, but need not keep the activations.
            g, psi = _backward_statistics(norm, held.pop(), grads[0], mean, invstd)
            values = {'g': g, 'psi': psi}
            if isinstance(norm, MovingAverageBatchNorm2d):
                values['psi_in_use'] = norm.statistics_in_use(node)['psi']
            self._keep(layer.records, call, {name: _norm(value) for name, value in values.items()})

        return record

    def _keep(self, table: _Table, event: int, values: Mapping[str, Tensor]) -> None:
        """Put values of shape () down, without waiting for the device."""
        self._waiting.append((table, event, tuple(values), torch.stack(tuple(values.values()))))
        if len(self._waiting) >= _WAITING:
            self._fetch()

    def _fetch(self) -> None:
        waiting, self._waiting = self._waiting, []
        of_device = defaultdict(list)
        for entry in waiting:
            of_device[entry[-1].device].append(entry)
        for entries in of_device.values():
            numbers = torch.cat([entry[-1] for entry in entries]).cpu().double()
            sizes = [len(names) for _, _, names, _ in entries]
            for (table, event, names, _), part in zip(entries, numbers.split(sizes), strict=True):
                table.write(event, names, part.numpy())


class _Table:
    """Rows of numbers, one for each n-th event: when they are too many, every second one goes and n doubles.

    The number of an event tells its row, so values may come at any time and in parts.
    """

    def __init__(self, names: tuple[str, ...], interval: int, limit: int) -> None:
        self._names = names
        self._interval = interval
        self._rows = np.full((limit, len(names)), np.nan)
        self._count = 0

    def is_next(self) -> bool:
        """Tell whether the next event may get a row."""
        return self._count % self._interval == 0

    def count(self) -> int | None:
        """Count an event, and return its number, from 1, if it gets a row."""
        row, rest = divmod(self._count, self._interval)
        if rest == 0 and row >= len(self._rows):
            kept = self._rows[::2].copy()
            self._rows.fill(np.nan)
            self._rows[: len(kept)] = kept
            self._interval *= 2
            rest = self._count % self._interval
        self._count += 1
        return None if rest else self._count

    def write(self, event: int, names: tuple[str, ...], values: np.ndarray) -> None:
        """Write some of the values of an event, unless its row has gone."""
        row, rest = divmod(event - 1, self._interval)
        if rest == 0:
            self._rows[row, [self._names.index(name) for name in names]] = values

    def events(self) -> np.ndarray:
        """Return the numbers of the events that have a row."""
        return np.arange(1, self._count + 1, self._interval)

    def columns(self) -> dict[str, np.ndarray]:
        """Return the values, by their names."""
        rows = self._rows[: len(self.events())]
        return {name: rows[:, column].copy() for column, name in enumerate(self._names)}


class _Layer:
    """A layer that is recorded: its tables, and its latest statistics as number, the batch's, in use."""

    def __init__(self, name: str, norm: _BatchNorm, interval: int, limit: int) -> None:
        self.name = name
        self.norm = norm
        records, errors = _names(norm)
        self.records = _Table(records, interval, limit)
        self.errors = _Table(errors, 1, limit)
        self.latest: tuple[int, Statistics, Statistics] | None = None
        self.diagnosis: Statistics = {}

    def statistics(self) -> LayerStatistics:
        """Return what is in the tables."""
        errors = self.errors.columns()
        errors['call'] = errors['call'].astype(np.int64)
        records = {'call': self.records.events(), **self.records.columns()}
        return LayerStatistics(type(self.norm).__name__, records, errors)


def _names(norm: _BatchNorm) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what there is to record of a layer, and what of it a reference batch is compared with."""
    own = ('mean', 'var', 'chi2', 'g', 'psi')
    if isinstance(norm, MovingAverageBatchNorm2d):
        return (*own, 'chi2_in_use', 'psi_in_use'), ('call', 'chi2', 'chi2_in_use')
    in_use = ('mean_in_use', 'var_in_use') if isinstance(norm, StatefulNorm) else ()
    window = ('clamped', 'compensation') if isinstance(norm, CrossIterationBatchNorm2d) else ()
    return (*own, *in_use, *window), ('call', 'mean', 'var', *in_use)


def _matching(model: nn.Module, patterns: Sequence[str]) -> list[tuple[str, _BatchNorm]]:
    norms = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and not isinstance(module, nn.SyncBatchNorm)
    }
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in norms):
            there = ', '.join(norms) or 'none'
            raise ValueError(
                f'layers: {pattern!r} matches no batch norm of {type(model).__name__}, which has {there}'
            )
    return [(n, norm) for n, norm in norms.items() if any(fnmatchcase(n, pattern) for pattern in patterns)]


def _convolution(model: nn.Module, layer: _Layer) -> nn.Conv2d | None:
    """Return what a CBN layer is paired with: a sibling, whatever root the layer was paired from."""
    pair_names = getattr(layer.norm, 'pair_names', None)
    if pair_names is None or not layer.name:
        return None
    return getattr(model.get_submodule(layer.name.rpartition('.')[0]), pair_names[1].rpartition('.')[2])


def _diagnose(layer: _Layer, conv: nn.Conv2d, norm: CrossIterationBatchNorm2d, _: tuple[Tensor, ...]) -> None:
    """Look at the window before the forward pass adds to it: these entries go into the average."""
    layer.diagnosis = {}
    if norm.training and torch.is_grad_enabled() and backward_pass() is None and layer.records.is_next():
        report = norm.diagnose(conv) or {}
        layer.diagnosis = {name: report[name] for name in ('clamped', 'compensation') if name in report}


def _moments(x: Tensor) -> Statistics:
    mean, var = batch_moments(x)
    return {'mean': mean, 'var': var, 'chi2': var + mean.square()}


def _named(own: Statistics, used: Statistics) -> Statistics:
    return own | {f'{name}_in_use': values for name, values in used.items() if name != 'psi'}


def _norm(values: Tensor) -> Tensor:
    return torch.linalg.vector_norm(values)


def _backward_statistics(
    norm: _BatchNorm, x: Tensor, grad: Tensor, mean: Tensor, invstd: Tensor
) -> tuple[Tensor, Tensor]:
    """Return g_B and Psi_B, shape (C,)."""
    # The gradients of beta and gamma, in one pass that sums in the type of the statistics.
    _, products, sums = batch_norm_backward(
        grad.to(x.dtype), x, torch.ones_like(mean), mean, invstd, (False, True, True)
    )
    scale = 1 if norm.weight is None else norm.weight.to(mean.dtype)
    positions = x.numel() // x.size(1)
    return scale * sums / positions, scale * products / positions


def _normalize_alone(
    seen: Mapping[_BatchNorm, list[Statistics]], norm: _BatchNorm, inputs: tuple[Tensor, ...], _: Tensor
) -> Tensor | None:
    """Replace the output by one that the statistics of this batch alone have made."""
    x = inputs[0]
    if x.numel() == 0:
        return None
    moments = _moments(x)
    seen[norm].append(moments)
    mean, var = moments['mean'], moments['var']
    if isinstance(norm, MovingAverageBatchNorm2d):
        mean, var = torch.zeros_like(mean), moments['chi2']
    return normalize(x, norm.weight, norm.bias, mean, var, norm.eps)


def _distances(norm: _BatchNorm, own: Statistics, used: Statistics, reference: Statistics) -> Statistics:
    """Return the columns of the errors but 'call', shape () each."""
    scale = (reference['var'] + norm.eps).sqrt()
    of_name = {
        'mean': lambda mean: (mean - reference['mean']) / scale,
        'var': lambda var: (var + norm.eps) / (reference['var'] + norm.eps) - 1,
        'chi2': lambda chi2: (chi2 + norm.eps) / (reference['chi2'] + norm.eps) - 1,
    }
    wanted = _names(norm)[1][1:]
    return {
        name: of_name[name.removesuffix('_in_use')](values).square().mean().sqrt()
        for name, values in _named(own, used).items()
        if name in wanted
    }


def _cuda_devices(model: nn.Module) -> list[int]:
    return sorted({tensor.device.index for tensor in model.parameters() if tensor.is_cuda})
