"""What the layers of this package share beyond torch's batch normalization."""

from collections import OrderedDict
from typing import Any
from warnings import warn

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..ops import all_finite
from ..ops.torch_private import uncompiled
from .arguments import check_integer, check_number
from .errors import SingleValueError
from .repetition import Repetition


class StatefulNorm:
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

    arguments: tuple[str, ...] = ()
    memory: tuple[str, ...] = ('iterations',)

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
        check_number('eps', eps, 0)
        if momentum is not None:
            check_number('momentum', momentum, 0, 1)
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype)
        self.register_buffer('iterations', torch.zeros((), dtype=torch.long, device=device))
        self._repetition = Repetition()

    def forward(self, x: Tensor) -> Tensor:
        """Normalize ``x`` of shape (N, C, H, W); the output has its shape, type and memory format."""
        self._check_input_dim(x)
        if self.training:
            return self._forward_outside_of_autocast(x)
        return F.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            training=self.running_mean is None,
            eps=self.eps,
        )

    def train_forward(self, x: Tensor) -> Tensor:
        """Normalize in training mode."""
        raise NotImplementedError

    @uncompiled
    def _forward_outside_of_autocast(self, x: Tensor) -> Tensor:
        """Autocast would run the small products of the statistics in half precision."""
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

    def train(self, mode: bool = True) -> nn.Module:
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

    def _require_running_statistics(self) -> None:
        """Raise ValueError where there is no running value with a momentum, which the formula needs."""
        if not self.track_running_stats or self.momentum is None:
            raise ValueError(
                f'{type(self).__name__} trains with its running statistics: it needs '
                'track_running_stats=True and a momentum in [0, 1], got '
                f'track_running_stats={self.track_running_stats!r}, momentum={self.momentum!r}'
            )

    @torch.no_grad()
    def _update_running_statistics(self, mean: Tensor, var: Tensor, positions: int | Tensor) -> None:
        """Move the running statistics as BN does, but not by values that are not finite.

        Args:
            mean: Of the batch, shape (C,).
            var: Biased, shape (C,).
            positions: Number M of values behind each, int or of shape (). A single one has no unbiased
                variance, and moves the mean alone.
        """
        if not self.track_running_stats:
            return
        finite = all_finite(torch.stack((mean, var)))
        self.num_batches_tracked.add_(finite)
        momentum = self.momentum
        if momentum is None:
            momentum = 1 / self.num_batches_tracked.to(mean.dtype).clamp(min=1)
            momentum = momentum.to(self.running_mean.dtype)  # torch 2.1 asks for it
        moves = [(self.running_mean, mean, finite)]
        if isinstance(positions, Tensor) or positions > 1:
            several = finite & (positions > 1) if isinstance(positions, Tensor) else finite
            moves.append((self.running_var, var * (positions / (positions - 1)), several))
        for running, current, enters in moves:
            running.lerp_(torch.where(enters, current.to(running.dtype), running), momentum)

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

        The memory is taken as a whole or not at all: a counter without its buffers would average zeros.
        """
        own = {prefix + name: getattr(self, name) for name in self.memory}
        found = own.keys() & state_dict.keys()
        if any(key not in found or state_dict[key].shape != buffer.shape for key, buffer in own.items()):
            if found:
                warn(
                    f'{prefix}: the checkpoint holds the memory of a layer of another type or size '
                    f'({", ".join(sorted(found))}); {type(self).__name__} starts anew',
                    stacklevel=2,
                )
            state_dict = OrderedDict((k, v) for k, v in state_dict.items() if k not in own)
            for buffer in own.values():
                buffer.zero_()
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        missing_keys[:] = [key for key in missing_keys if key not in own]

    def extra_repr(self) -> str:
        """Add the layer's own arguments to BN's."""
        own = ''.join(f', {name}={getattr(self, name)}' for name in self.arguments)
        return super().extra_repr() + own
