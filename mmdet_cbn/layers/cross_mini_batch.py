"""Cross mini-Batch Normalization (CmBN), of gradient accumulation."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from .naive_cross_iteration import NaiveCrossIterationBatchNorm2d
from .window import Window


class CrossMiniBatchNorm2d(NaiveCrossIterationBatchNorm2d, _BatchNorm):  # MMEngine looks at direct bases
    r"""CmBN: batch statistics averaged over the micro-batches of one accumulated step.

    The variant of CBN that YOLOv4 (Bochkovskiy et al., arXiv 2004.10934) made popular: the weights are the
    same for all micro-batches of a step, so their statistics need no correction. It is
    :class:`NaiveCrossIterationBatchNorm2d` with a window that is emptied after every optimizer step:
    micro-batch i of a step is normalized by the average over micro-batches 1 to i, and so the first one by
    itself, as in BN. Without gradient accumulation it is BN. Each call counts, where a layer has several in a
    micro-batch.

    Whoever trains says when a step ends: in MMEngine ``CrossIterationHook`` does, by the optimizer wrapper's
    ``accumulative_counts``; elsewhere :func:`end_step` after ``optimizer.step()``. Otherwise the window never
    empties, and the layer is Naive CBN.

    Args:
        num_features: Channels C of the input (N, C, H, W).
        eps: Added to the variance.
        momentum: Weight of the new observation in the running statistics, in [0, 1]; None for their
            cumulative average.
        affine: Whether to learn gamma and beta.
        track_running_stats: As in ``nn.BatchNorm2d``.
        window_size: The most micro-batches that are averaged, the current one included: those of a step, or
            the first ones drop out.
        burn_in: Number of first training forwards that are BN.
        sync: Take statistics and their gradients over the processes of torch's default group.
        device: Of parameters and buffers.
        dtype: Of parameters and buffers.

    Raises:
        ValueError: An argument is out of its range; the input is not 4D; there is one value per channel
            during burn-in.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), CrossMiniBatchNorm2d(8))
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> for micro_batch in torch.randn(4, 2, 3, 16, 16):
        ...     model(micro_batch).sum().backward()
        >>> optimizer.step()
        >>> end_step(model)
    """

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
    ) -> None:
        super().__init__(
            num_features,
            eps,
            momentum,
            affine,
            track_running_stats,
            window_size=window_size,
            burn_in=burn_in,
            sync=sync,
            device=device,
            dtype=dtype,
        )


def end_step(model: nn.Module) -> None:
    """Empty the windows of all CmBN layers of ``model``, after an optimizer step.

    Args:
        model: Any module.
    """
    for module in model.modules():
        if isinstance(module, CrossMiniBatchNorm2d) and isinstance(module.window, Window):
            module.window.taken.zero_()  # in place, for CUDA graphs
