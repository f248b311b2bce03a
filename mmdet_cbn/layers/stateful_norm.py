"""What the layers of this package share beyond torch's batch normalization."""

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, TypeVar
from warnings import warn

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..ops import Moments, batch_moments, statistics_dtype, store_as
from ..ops.torch_private import is_exporting, uncompiled
from .arguments import check_integer, check_number, check_positive
from .errors import SingleValueError
from .repetition import Repetition

if TYPE_CHECKING:
    from torch.nn.modules.batchnorm import _BatchNorm as _Beside
else:
    _Beside = object


Norm = TypeVar('Norm', bound='StatefulNorm')


def _name_type(
    norm: nn.Module, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any]
) -> None:
    local_metadata['norm'] = type(norm).__name__


class StatefulNorm(_Beside):
    """Mixin beside torch's ``_BatchNorm`` for layers whose training output depends on earlier iterations.

    With ``_BatchNorm`` among its bases a layer is frozen, folded, exempted from weight decay and loaded from
    BN checkpoints wherever BN is. In eval mode it *is* BN. What it does in training mode is its
    :meth:`train_forward`, which it may split: what it *measures* (the statistics of this call, taken into its
    memory, once a call) and how it *normalizes* by that.

    What cannot be prevented: ``SyncBatchNorm.convert_sync_batchnorm`` and MMEngine's conversion of the same
    name (``sync_bn`` in a config) replace any ``_BatchNorm`` by SyncBN without asking it. Where a config says
    so, ``CrossIterationHook`` and the checks before a run refuse it; a call of the function goes unnoticed.

    Attributes:
        arguments: Names of the constructor's arguments beyond those of ``nn.BatchNorm2d``.
        memory: Names of the buffers that a checkpoint gives back as a whole or not at all.
        iterations: Buffer, int64, shape (): training forwards with gradients, empty ones not counted unless
            the layer is synchronized (by MABN only those with finite statistics). It is apart from
            ``num_batches_tracked``, which a checkpoint of a pre-trained BN brings along.
    """

    iterations: Tensor
    arguments: tuple[str, ...] = ()
    memory: tuple[str, ...] = ('iterations',)
    # What torch.jit.script would compile and cannot.
    __jit_unused_properties__ = ('iteration', 'is_pooling')
    __jit_ignored_attributes__ = ('arguments', 'memory')

    def __init__(
        self,
        num_features: int,
        eps: float,
        momentum: float | None,
        affine: bool,
        track_running_stats: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        check_integer('num_features', num_features, 1)
        check_positive('eps', eps)
        if momentum is not None:
            check_number('momentum', momentum, 0, 1)
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype)
        self.register_buffer('iterations', torch.zeros((), dtype=torch.long, device=device))
        # Counters of CBN and BRN have one name: the type tells them apart. MMEngine calls hooks alone.
        self._register_state_dict_hook(_name_type)
        self._repetition = Repetition()
        # The counter on the host: reading the buffer in each iteration would wait for the GPU.
        self._iteration: int | None = 0

    @property
    def iteration(self) -> int:
        """Training iterations so far, those included that MABN does not count.

        Reads the buffer once after a checkpoint was loaded.
        """
        if self._iteration is None:
            self._iteration = int(self.iterations)
        return self._iteration

    def restart(self) -> None:
        """Forget the iterations so far: what the layer remembers and its first iterations start anew."""
        self._forget()

    def _count(self, counts: Tensor | int = 1) -> None:
        self._iteration = self.iteration + 1
        self.iterations.add_(counts)

    def forward(self, x: Tensor) -> Tensor:
        """Normalize ``x`` of shape (N, C, H, W); the output has its shape, type and memory format."""
        if torch.jit.is_scripting():
            if self.training:
                raise RuntimeError('a scripted layer of mmdet_cbn cannot train; call eval() before scripting')
        elif isinstance(x, torch.fx.Proxy):
            if self.training:
                return self._trace_by_batch(x)
        else:
            self._check_input_dim(x)
            if self.training:
                if torch.jit.is_tracing():  # FLOPs are counted so
                    return self._trace_by_batch(x)
                return self._forward_outside_of_autocast(x)
        mean, var = self.running_mean, self.running_var
        return F.batch_norm(x, mean, var, self.weight, self.bias, training=mean is None, eps=self.eps)

    def _trace_by_batch(self, x: Tensor) -> Tensor:
        warn(
            f'{type(self).__name__} is traced in training mode: the trace normalizes by the batch',
            stacklevel=3,
        )
        return F.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=self.eps)

    def train_forward(self, x: Tensor) -> Tensor:
        """Normalize in training mode."""
        raise NotImplementedError

    @uncompiled
    def _forward_outside_of_autocast(self, x: Tensor) -> Tensor:
        """Autocast would run the small products of the statistics in half precision."""
        if is_exporting():  # asked here, since dynamo answers yes wherever it compiles
            raise RuntimeError(
                f'{type(self).__name__} cannot be exported in training mode, in which it remembers earlier '
                'iterations; call eval() before'
            )
        with torch.autocast(x.device.type, enabled=False):
            return self.train_forward(x)

    def statistics_in_use(self, node: torch.autograd.graph.Node) -> dict[str, Tensor]:
        """Return the statistics that stood in the place of the batch's in one call of the layer.

        Args:
            node: The ``grad_fn`` of the layer's training output (what an in-place ReLU behind it replaces).

        Returns:
            Tensors of shape (C,): 'mean' and 'var', or 'chi2' for MABN, such that the output is the affine
            map of the input that they make with ``weight``, ``bias`` and ``eps``; and for MABN 'psi' as soon
            as the backward pass went through the node. Corrections such as r and d are taken in.

        Raises:
            ValueError: The node did not make a training output of this layer.
        """
        used = self._repetition.remembered(node)
        if used is None:
            raise ValueError(f'{node} did not make a training output of this {type(self).__name__}')
        return used.as_batch_norm(self.eps)

    def train(self: Norm, mode: bool = True) -> Norm:
        """Set the mode, which ends a pass like ``torch.optim.swa_utils.update_bn``."""
        self._repetition.reset()
        return super().train(mode)

    def _check_input_dim(self, x: Tensor) -> None:
        if x.dim() != 4:
            raise ValueError(f'expected 4D input (got {x.dim()}D input)')
        if x.size(1) != self.num_features:
            raise ValueError(
                f'{type(self).__name__} has num_features={self.num_features}, got an input of shape '
                f'{tuple(x.shape)}; num_features must be the number of channels of the input'
            )

    def _empty_output(self, x: Tensor) -> Tensor:
        """Pass an empty batch on: DDP waits for the gradient of every parameter, be it zero."""
        if not self.affine:
            return x.clone()
        return (x * self.weight[:, None, None] + self.bias[:, None, None]).to(x.dtype)

    @staticmethod
    def _require_several_values(x: Tensor) -> None:
        """Raise what ``nn.BatchNorm2d`` raises where a variance cannot be had."""
        if x.numel() == x.size(1):
            raise SingleValueError(
                f'Expected more than 1 value per channel when training, got input size {x.size()}'
            )

    def _collects(self) -> bool:
        """Tell whether this pass averages running statistics over all batches, and trains nothing.

        So ``torch.optim.swa_utils.update_bn`` asks for it: without a momentum and without gradients.
        """
        return self.track_running_stats and self.momentum is None and not torch.is_grad_enabled()

    def _require_running_statistics(self) -> None:
        """Raise ValueError where there is no running value with a momentum, which the formula needs."""
        if not self.track_running_stats or (self.momentum is None and not self._collects()):
            raise ValueError(
                f'{type(self).__name__} trains with its running statistics: it needs '
                'track_running_stats=True and a momentum in [0, 1], got '
                f'track_running_stats={self.track_running_stats!r}, momentum={self.momentum!r}'
            )

    @torch.no_grad()
    def _batch_moments(self, x: Tensor, running: Moments | None = None) -> tuple[Moments, Moments | None]:
        """Measure ``x``, and find the running statistics after it where the same kernel moves them.

        Args:
            x: The input.
            running: What :meth:`_finite_running_statistics` returned, to be moved in place.
        """
        if not self.track_running_stats or self.momentum is None or x.numel() == x.size(1):
            return batch_moments(x), None
        running = running or self._finite_running_statistics()
        if running.mean.dtype != statistics_dtype(x):
            return batch_moments(x), None
        return batch_moments(x, running, self.momentum), running

    @torch.no_grad()
    def _move_running_statistics(
        self, batch: Moments, positions: int | Tensor, finite: Tensor, moved: Moments | None
    ) -> None:
        """Move the running statistics as BN does, but not by values that are not finite.

        Args:
            batch: Mean and biased variance, each of shape (C,).
            positions: Number M of values behind each, int or of shape (). A single one has no unbiased
                variance, and moves the mean alone.
            finite: Whether the batch is, bool, shape ().
            moved: What :meth:`_batch_moments` found.
        """
        if not self.track_running_stats:
            return
        mean, var, batches = self._running_buffers()
        batches.add_(finite)
        moved = moved or self._moved_running_statistics(batch, positions)
        for running, new in zip((mean, var), moved, strict=True):
            torch.where(finite, new, running, out=running)

    def _momentum(self, dtype: torch.dtype) -> float | Tensor:
        """Return the weight of the latest batch, which is counted already; without a momentum that of all."""
        if self.momentum is not None:
            return self.momentum
        return 1 / self._running_buffers()[2].to(dtype)

    def _moved_running_statistics(self, batch: Moments, positions: int | Tensor) -> Moments:
        """Move the running statistics by hand, in the type of the batch's."""
        momentum = self._momentum(batch.mean.dtype)
        mean, var = (values.to(batch.mean.dtype) for values in self._finite_running_statistics())
        mean = mean.lerp(batch.mean, momentum)
        if isinstance(positions, Tensor):
            unbiased = batch.var * (positions / (positions - 1))
            var = torch.where(positions > 1, var.lerp(unbiased, momentum), var)
        elif positions > 1:
            var = var.lerp(batch.var * (positions / (positions - 1)), momentum)
        kept_mean, kept_var, _ = self._running_buffers()
        return Moments(store_as(mean, kept_mean.dtype), store_as(var, kept_var.dtype))

    def _finite_running_statistics(self) -> Moments:
        """Return copies, in which a channel that is inf or nan begins anew, as in a new layer."""
        mean, var, _ = self._running_buffers()
        return Moments(mean.nan_to_num(0, 0, 0), var.nan_to_num(1, 1, 1))

    def _running_buffers(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return mean, variance and number of batches, which a layer with ``track_running_stats`` has."""
        mean, var, batches = self.running_mean, self.running_var, self.num_batches_tracked
        assert mean is not None
        assert var is not None
        assert batches is not None
        return mean, var, batches

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Load a checkpoint of this layer, or of another norm, which lacks what this layer remembers.

        The memory is taken as a whole or not at all: a counter without its buffers would average zeros. A
        state dict that holds nothing of the layer leaves it as it is.
        """
        if not any(prefix + name in state_dict for name in (*self._parameters, *self._buffers)):
            missing_keys += [
                prefix + name for name in self.state_dict() if strict and name not in self.memory
            ]
            return
        own = {prefix + name: getattr(self, name) for name in self.memory}
        found = own.keys() & state_dict.keys()
        foreign = local_metadata.get('norm', type(self).__name__) != type(self).__name__
        if foreign or any(k not in found or state_dict[k].shape != v.shape for k, v in own.items()):
            if found:
                warn(
                    f'{prefix}: the checkpoint holds the memory of a layer of another type or size '
                    f'({", ".join(sorted(found))}); {type(self).__name__} starts anew',
                    stacklevel=2,
                )
            state_dict = OrderedDict((k, v) for k, v in state_dict.items() if k not in own)
            self._forget()
            if local_metadata.get('assign_to_params_buffers'):  # of a model without values, on 'meta'
                device = next(v.device for k, v in state_dict.items() if k.startswith(prefix))
                for name in self.memory:
                    setattr(self, name, torch.zeros_like(getattr(self, name), device=device))
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        missing_keys[:] = [key for key in missing_keys if key not in own]
        self._expect_other_values()

    def reset_parameters(self) -> None:
        """Begin as a new layer: parameters, running statistics and all that is remembered."""
        super().reset_parameters()
        if 'iterations' in self._buffers:  # torch calls it in its own constructor, before there is a memory
            self._forget()

    @torch.no_grad()
    def _forget(self) -> None:
        """Empty what the layer remembers."""
        for name in self.memory:
            getattr(self, name).zero_()
        self._expect_other_values()

    def _expect_other_values(self) -> None:
        """Drop what was derived from buffers that have other values now."""
        self._iteration = None

    def extra_repr(self) -> str:
        """Add the layer's own arguments to BN's."""
        own = ''.join(f', {name}={getattr(self, name)}' for name in self.arguments)
        usual: str = super().extra_repr()
        return usual + own
