"""Cross-Iteration Batch Normalization (CBN)."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..ops import (
    ConvCall,
    Derivatives,
    PooledDerivatives,
    estimate_variance_derivative,
    joint_derivatives,
    mean_derivative,
    move_centre,
    variance_derivative,
)
from .arguments import check_flag, check_fraction
from .conv_call import read_call, read_weights
from .cross_iteration_norm import (
    BatchStatistics,
    CrossIterationNorm,
    CrossIterationStatistics,
    WindowGradient,
)
from .errors import PairingError
from .handover import Handover

Norm = TypeVar('Norm', bound='CrossIterationBatchNorm2d')


class CrossIterationBatchNorm2d(CrossIterationNorm, _BatchNorm):
    r"""Cross-Iteration Batch Normalization (Yao et al., arXiv 2002.05712).

    Normalizes the output y of a convolution by statistics of the last k iterations, where earlier ones
    are carried over to today's weights theta by a first-order Taylor term (eq. 7 to 12):

    .. math::
        \bar\mu = \frac1k \sum_{s<k} \mu_{t-s}(\theta_t), \quad
        \bar\nu = \frac1k \sum_{s<k} \max(\nu_{t-s}(\theta_t), \mu_{t-s}(\theta_t)^2), \quad
        \hat y = \gamma \frac{y - \bar\mu}{\sqrt{\bar\nu - \bar\mu^2 + \epsilon}} + \beta

    with :math:`\mu` and :math:`\nu` the means of y and of its square. Gradients flow through y and the
    current statistics, not through those of earlier iterations. Running statistics are BN's. While the
    window fills, the average runs over what is there. Statistics, derivatives and the window are float32
    (float64 for float64 inputs).

    In training mode the layer must be told which convolution feeds it: see :func:`pair_conv_norm`.

    Unusual inputs: an empty batch passes through and changes nothing (with ``sync=True`` it takes part in the
    statistics of all processes). Statistics with inf or nan enter
    neither the window nor the running statistics. A training-mode forward under ``torch.no_grad`` uses
    the window without adding to it (and moves the running statistics, as BN does). Second derivatives are
    not supported. Activation checkpointing of both kinds adds each iteration once (:mod:`.repetition`).

    Args:
        num_features: Channels C of the input (N, C, H, W).
        eps: Added to the variance.
        momentum: Weight of the new observation in the running statistics, in [0, 1]; None for their
            cumulative average.
        affine: Whether to learn gamma and beta.
        track_running_stats: As in ``nn.BatchNorm2d``.
        window_size: k, the current iteration included, at least 1 (which is BN).
        burn_in: Number of first training forwards with k = 1, in which, by the paper, the weights move
            too fast for the correction. ``CrossIterationHook`` sets it from epochs.
        averaging: 'window' averages the last k iterations equally, as the paper does. Beyond it,
            'exponential' averages all of them with weights that decay by 1 - 2 / (k + 1), which has the mean
            age of a window of k, and keeps one size of the weights whatever k (see ``ops.exponential``); the
            maximum of eq. 10 is taken of the averages. 'growing' is that with a span which grows by one
            iteration in 25 until it is k, meant to need no burn-in (see :class:`.GrowingWindow`).
        sync: Take statistics, derivatives and their gradients over the processes of torch's default group, as
            SyncBN does, so that window and GPUs add up. Every process has to call the layer and to reach it
            in its backward pass equally often; batches may differ in size or be empty. No effect in a single
            process.
        derivative_fraction: Share of the positions from which the derivative of the variance is estimated,
            in (0, 1]; 1 is exact. The mean's is always exact. The correction is small, so an error in it is
            of second order; on CPUs 1/8 spares two thirds of what CBN costs beside BN, 40% behind 1x1.
        window_gradient: Beyond the paper: let gradients reach the weights through the earlier entries too, as
            the functions of today's weights that the correction makes of them. It restores what the factor
            1 / k takes from BN's backward pass: to first order, rescaling a filter changes nothing.
        device: Of parameters and buffers.
        dtype: Of parameters and buffers.

    Raises:
        ValueError: An argument is out of its range; the input is not 4D; there is one value per channel
            during burn-in.
        PairingError: In training, when no convolution is paired or the input is not its output.

    Example:
        >>> block = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), CrossIterationBatchNorm2d(8))
        >>> pair_conv_norm(block)
        {'1': '0'}
        >>> block(torch.randn(2, 3, 16, 16)).shape
        torch.Size([2, 8, 14, 14])
    """

    arguments = (*CrossIterationNorm.arguments, 'derivative_fraction', 'window_gradient')

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        window_size: int = 4,
        burn_in: int = 0,
        averaging: str = 'window',
        sync: bool = False,
        derivative_fraction: float = 1.0,
        window_gradient: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            num_features,
            eps,
            momentum,
            affine,
            track_running_stats,
            window_size,
            burn_in,
            averaging,
            sync,
            device,
            dtype,
        )
        check_fraction('derivative_fraction', derivative_fraction)
        check_flag('window_gradient', window_gradient)
        self.derivative_fraction = derivative_fraction
        self.window_gradient = window_gradient
        self.pair_names: tuple[str, str] | None = None
        self.handover: Handover | None = None

    def pair(self, handover: Handover, names: tuple[str, str]) -> None:
        """Meet the convolution: see :func:`pair_conv_norm`.

        Args:
            handover: Of the convolution.
            names: Of the layer and of the convolution in their model.
        """
        if self.handover is not handover:
            self.window = None  # its entries are of another convolution
        self.unpair()
        self.handover, self.pair_names = handover, names
        handover.listen(names[0], self.training)

    def unpair(self) -> None:
        """Part from the convolution, which is listened to no longer."""
        if self.handover is not None and self.pair_names is not None:
            self.handover.listen(self.pair_names[0], False)
        self.handover = self.pair_names = None

    def train(self: Norm, mode: bool = True) -> Norm:
        """Set the mode; the convolution is listened to in training mode alone."""
        if self.handover is not None and self.pair_names is not None:
            self.handover.listen(self.pair_names[0], mode)
        return super().train(mode)

    def train_forward(self, y: Tensor) -> Tensor:
        """Normalize ``y`` (N, C, H, W), which the paired convolution has just returned, by the window."""
        if self._passes_on(y):
            return self._empty_output(y)
        used = self._repetition.first_pass(y, self._measure)
        out = self._normalize(y, used)
        self._repetition.remember(out, used)
        return out

    def _measure(self, y: Tensor) -> CrossIterationStatistics:
        """Average over the window under today's weights (eq. 7 to 11), and take the batch into it."""
        conv, x = self._take_input(y)
        remember = torch.is_grad_enabled()
        pooling = self.is_pooling and (remember or self.window is not None)
        batch = self._measure_batch(y)
        if remember:
            self._count()
        if not pooling:
            return self._use_batch(batch)
        assert conv is not None  # since k > 1
        assert x is not None
        gradient = finite = None
        with torch.no_grad():
            call = read_call(conv, x, batch.moments.mean.dtype)
            window = self._fitting_window(batch.moments.mean, call.theta, call.groups)
            past = window.statistics(call.theta, call.bias)  # eq. 7 and 8
            pooled = window.average(batch.moments, past)  # eq. 9 to 11
            if remember and self.window_gradient:
                gradient = WindowGradient(conv, _where_there_is_data(window.gradient(pooled, past), batch))
            if remember:
                derivatives = self._differentiate(call, y, batch, window.centre(pooled))
                finite = window.push(pooled, call, derivatives)
                self.window = window
        self._update_running_statistics(batch, finite)
        return self._use_window(pooled, batch, gradient)

    def _differentiate(
        self, call: ConvCall, y: Tensor, batch: BatchStatistics, centre: Tensor
    ) -> Derivatives:
        """Differentiate this iteration's mean, and its mean of squares about ``centre``, by the weights."""
        if y.numel() == 0:
            theta = call.theta
            own = Derivatives(theta.new_zeros(call.groups, theta.size(1)), torch.zeros_like(theta))
        else:
            of_mean = mean_derivative(call, (y.size(2), y.size(3)))
            if self.derivative_fraction < 1:
                of_var = estimate_variance_derivative(call, y, batch.own.var, self.derivative_fraction)
                of_var = move_centre(of_var, of_mean, batch.own.mean, centre)
            else:
                of_var = variance_derivative(call, y, batch.own, of_mean, centre)
            own = Derivatives(of_mean, of_var)
        return joint_derivatives(own, batch.part) if isinstance(batch.part, Tensor) else own

    def _take_input(self, y: Tensor) -> tuple[nn.Conv2d | None, Tensor | None]:
        """Return the convolution that made ``y`` and its input, None in an unpaired layer with k = 1."""
        call = None if self.handover is None else self.handover.take(y)
        if call is not None or self.window_size == 1:
            return call or (None, None)
        if self.handover is None or self.pair_names is None:
            raise PairingError(
                f'{type(self).__name__}({self.extra_repr()}) trains without knowing its convolution. Call '
                'mmdet_cbn.layers.pair_conv_norm(model) before training; in MMDetection, put '
                "dict(type='CrossIterationHook') into custom_hooks."
            )
        norm, conv = self.pair_names
        kind = f'{norm} ({type(self).__name__})'
        if self.handover.in_eval_mode:
            message = f'{kind} is in training mode and its convolution {conv} in eval mode; set both alike.'
        else:
            message = (
                f'{kind} got a tensor that is not the output of its convolution {conv}, or that was changed '
                'in place on the way. The layer must directly follow the convolution registered before it; '
                'use another norm here, or window_size=1.'
            )
        raise PairingError(message, norm, conv)

    @torch.no_grad()
    def diagnose(self, conv: nn.Conv2d) -> dict[str, Tensor] | None:
        """Summarize the window under the weights of ``conv``: see :meth:`.Window.diagnose`."""
        if self.window is None:
            return None
        weight, bias = read_weights(conv, self.window.mean.dtype)
        return self.window.diagnose(weight.flatten(1), bias)


def _where_there_is_data(derivatives: PooledDerivatives, batch: BatchStatistics) -> PooledDerivatives:
    """Replace the nan of a synchronized iteration in which no process has data."""
    if not isinstance(batch.positions, Tensor):
        return derivatives
    some = batch.positions > 0
    return PooledDerivatives(*(torch.where(some, term, 0) for term in derivatives))
