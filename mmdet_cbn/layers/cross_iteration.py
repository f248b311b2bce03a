"""Cross-Iteration Batch Normalization (CBN), with and without compensation."""

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from ..ops import (
    batch_moments,
    estimate_variance_derivative,
    joint_derivatives,
    joint_moments,
    joint_normalize,
    mean_derivative,
    normalize,
    variance_derivative,
)
from .arguments import check_flag, check_fraction, check_integer
from .effective_weight import effective_weight
from .errors import PairingError
from .handover import Handover
from .stateful_batch_norm import StatefulBatchNorm2d
from .window import Window, attach_gradient


class _CrossIterationBatchNorm2d(StatefulBatchNorm2d):
    """Batch normalization over a window of iterations; subclasses say how its entries are corrected."""

    arguments = ('window_size', 'burn_in', 'sync')

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
        sync: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **unknown: object,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, unknown)
        check_integer('window_size', window_size, 1)
        check_integer('burn_in', burn_in, 0)
        check_flag('sync', sync)
        self.sync = sync
        self.window_size = window_size
        self.burn_in = burn_in
        self.window: Window | None = None
        # The counter on the host: reading the buffer in each iteration would wait for the GPU.
        self._iteration: int | None = 0

    @property
    def iteration(self) -> int:
        """Training iterations so far; reads the buffer once after a checkpoint was loaded."""
        if self._iteration is None:
            self._iteration = int(self.iterations)
        return self._iteration

    @torch.no_grad()
    def restart(self) -> None:
        """Forget the iterations so far: burn-in starts anew, with an empty window."""
        self.iterations.zero_()
        self._iteration = 0
        self.window = None

    def _advance(self, x: Tensor) -> tuple[Any, ...]:
        conv, conv_input = self._take_source(x)
        remember = torch.is_grad_enabled()
        pooling = self.window_size > 1 and self.iteration >= self.burn_in
        joint = self._is_joint()
        if not (pooling or joint):
            self._require_several_values(x)
        with torch.no_grad():
            own = mean, var = batch_moments(x)
            total = part = share = gradient = None
            if joint:
                mean, var, total, part = joint_moments(mean, var, x.numel() // x.size(1))
                share = torch.ones_like(total)
            self._update_running_statistics(mean, var, x.numel() // x.size(1) if total is None else total)
            mean_bar, var_bar = mean, var
            if pooling:
                weight, bias = self._weights(conv, mean.dtype)
                window = self._fitting_window(mean, weight, conv)
                past = window.statistics(weight, bias)
                mean_bar, var_bar, share = window.average(mean, var, *past)
                if remember:
                    gradient = self._window_gradient(mean_bar, share, *past)
                    if joint and gradient is not None:  # nan where no process has data
                        gradient = tuple(torch.where(total > 0, term, 0) for term in gradient)
                    derivatives = self._derivatives(conv, conv_input, x, *own)
                    if joint and derivatives is not None:
                        derivatives = joint_derivatives(*derivatives, own[0], mean, part)
                    window.push(mean, var, weight, bias, derivatives)
        if remember:
            self._iteration = self.iteration + 1
            self.iterations.add_(1)
        return mean_bar, var_bar, share, total, gradient, conv

    def _normalize(
        self,
        x: Tensor,
        mean: Tensor,
        var: Tensor,
        share: Tensor | None,
        total: Tensor | None,
        gradient: tuple[Tensor, Tensor, Tensor, Tensor] | None,
        conv: nn.Conv2d | None,
    ) -> Tensor:
        if gradient is not None:
            mean, var = attach_gradient(mean, var, gradient, *self._weights(conv, mean.dtype))
        if total is None:
            return normalize(x, self.weight, self.bias, mean, var, self.eps, share)
        return joint_normalize(x, self.weight, self.bias, mean, var, self.eps, share, total)

    def _in_use(self, mean: Tensor, var: Tensor, *_: Any) -> dict[str, Tensor]:
        return {'mean': mean, 'var': var}

    def _fitting_window(self, mean: Tensor, weight: Tensor | None, conv: nn.Conv2d | None) -> Window:
        rows = self.window_size - 1
        if self.window is None or not self.window.matches(rows, mean, weight):
            groups = 1 if conv is None else conv.groups
            self.window = Window(rows, mean, weight, groups)
        return self.window

    def _is_joint(self) -> bool:
        return self.sync and distributed.is_initialized() and distributed.get_world_size() > 1

    def _passes_on(self, x: Tensor) -> bool:
        # With sync=True, a process without data still adds its zeros to the sums of the others.
        return super()._passes_on(x) and not self._is_joint()

    def _take_source(self, y: Tensor) -> tuple[nn.Conv2d | None, Tensor | None]:
        """Return the convolution that made ``y`` and its input, None where nobody asks for them."""
        return None, None

    def _weights(self, conv: nn.Conv2d | None, dtype: torch.dtype) -> tuple[Tensor | None, Tensor | None]:
        return None, None

    def _window_gradient(
        self, mean_bar: Tensor, share: Tensor, past_mean: Tensor, past_var: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
        return None

    def _derivatives(
        self, conv: nn.Conv2d | None, x: Tensor | None, y: Tensor, mean: Tensor, var: Tensor
    ) -> tuple[Tensor, Tensor] | None:
        return None

    def _apply(self, fn: Any, *args: Any, **kwargs: Any) -> nn.Module:
        """Move the window along with the layer; ``.half()`` and its like leave its type alone."""
        if self.window is not None:
            self.window.apply(lambda tensor: tensor.to(fn(tensor).device))
        return super()._apply(fn, *args, **kwargs)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._iteration = self.window = None  # its entries belong to other weights


class NaiveCrossIterationBatchNorm2d(_CrossIterationBatchNorm2d, _BatchNorm):
    r"""Naive CBN: batch statistics averaged over the last k iterations, as they were measured.

    The baseline of the CBN paper (arXiv 2002.05712, section 4): CBN without compensation for the change
    of the weights. It needs no convolution and no pairing. Arguments, shapes and the treatment of unusual
    inputs are those of :class:`CrossIterationBatchNorm2d`.

    Example:
        >>> norm = NaiveCrossIterationBatchNorm2d(8, window_size=4)
        >>> norm(torch.randn(2, 8, 5, 5)).shape
        torch.Size([2, 8, 5, 5])
    """


class CrossIterationBatchNorm2d(_CrossIterationBatchNorm2d, _BatchNorm):
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

    Unusual inputs: an empty batch passes through and changes nothing. Statistics with inf or nan enter
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
        burn_in: Number of first training forwards with k = 1, in which the weights move too fast for the
            correction. ``CrossIterationHook`` sets it from epochs.
        sync: Take statistics, derivatives and their gradients over the processes of torch's default group, as
            SyncBN does, so that window and GPUs add up. Every process has to call the layer and to reach it
            in its backward pass equally often; batches may differ in size or be empty. No effect in a single
            process.
        derivative_fraction: Share of the positions from which the derivative of the variance is estimated,
            in (0, 1]; 1 is exact. The mean's is always exact. The correction is small, so an error in it is
            of second order, and 1/8 spares most of what CBN costs beside BN.
        window_gradient: Beyond the paper: let gradients reach the weights through the earlier entries too, as
            the functions of today's weights that the correction makes of them. It restores what the factor
            1 / k takes from BN's backward pass: to first order, rescaling a filter changes nothing.
        device: Of parameters and buffers.
        dtype: Of parameters and buffers.
        **unknown: Nothing else is taken.

    Raises:
        ValueError: An argument is out of its range or unknown; the input is not 4D; there is one value per
            channel during burn-in.
        RuntimeError: In training, when no convolution is paired or the input is not its output.

    Example:
        >>> block = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), CrossIterationBatchNorm2d(8))
        >>> pair_conv_norm(block)
        {'1': '0'}
        >>> block(torch.randn(2, 3, 16, 16)).shape
        torch.Size([2, 8, 14, 14])
    """

    arguments = (*_CrossIterationBatchNorm2d.arguments, 'derivative_fraction', 'window_gradient')

    def __init__(
        self, *args: Any, derivative_fraction: float = 1.0, window_gradient: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        check_fraction('derivative_fraction', derivative_fraction)
        check_flag('window_gradient', window_gradient)
        self.derivative_fraction = derivative_fraction
        self.window_gradient = window_gradient
        self.pair_names: tuple[str, str] | None = None
        self.handover: Handover | None = None

    def diagnose(self, conv: nn.Conv2d) -> dict[str, Tensor] | None:
        """Summarize the window under the weights of ``conv``: see :meth:`Window.diagnose`."""
        if self.window is None:
            return None
        with torch.no_grad():
            return self.window.diagnose(*self._weights(conv, self.window.mean.dtype))

    def _take_source(self, y: Tensor) -> tuple[nn.Conv2d | None, Tensor | None]:
        call = None if self.handover is None else self.handover.take(y)
        if call is not None or self.window_size == 1:
            return call or (None, None)
        if self.pair_names is None:
            raise PairingError(
                f'{type(self).__name__}({self.extra_repr()}) trains without knowing its convolution. Call '
                'mmdet_cbn.layers.pair_conv_norm(model) before training; in MMDetection, put '
                "dict(type='CrossIterationHook') into custom_hooks."
            )
        norm, conv = self.pair_names
        raise PairingError(
            f'{norm} ({type(self).__name__}) got a tensor that is not the output of its convolution {conv}. '
            'The layer must directly follow the convolution registered before it; use another norm here, '
            'or window_size=1.',
            norm,
            conv,
        )

    def _weights(self, conv: nn.Conv2d, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        weight = effective_weight(conv).flatten(1).to(dtype)
        return weight, None if conv.bias is None else conv.bias.to(dtype)

    def _window_gradient(
        self, mean_bar: Tensor, share: Tensor, past_mean: Tensor, past_var: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
        return self.window.gradient(mean_bar, share, past_mean, past_var) if self.window_gradient else None

    def _derivatives(
        self, conv: nn.Conv2d, x: Tensor, y: Tensor, mean: Tensor, var: Tensor
    ) -> tuple[Tensor, Tensor]:
        if y.numel() == 0:
            weight = conv.weight.flatten(1)
            return mean.new_zeros(conv.groups, weight.size(1)), mean.new_zeros(weight.shape)
        x, padding = _padded(conv, x)
        geometry = (conv.kernel_size, conv.stride, padding, conv.dilation, conv.groups)
        of_mean = mean_derivative(x, y.shape[2:], *geometry)
        if self.derivative_fraction < 1:
            return of_mean, estimate_variance_derivative(x, y, var, self.derivative_fraction, *geometry)
        return of_mean, variance_derivative(x, y, mean, var, of_mean, *geometry)


def _padded(conv: nn.Conv2d, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """Return the input and the zero padding on each side that reproduce the padding of ``conv``."""
    left, right, top, bottom = conv._reversed_padding_repeated_twice
    if conv.padding_mode != 'zeros':
        return F.pad(x, (left, right, top, bottom), mode=conv.padding_mode), (0, 0)
    if (left, top) != (right, bottom):  # padding='same' of an even kernel
        return F.pad(x, (left, right, top, bottom)), (0, 0)
    return x, (top, left)
