"""mmcv's ConvModule with its norm paired from the start."""

from typing import Any

from mmcv.cnn import ConvModule
from mmengine.registry import MODELS

from .layers import CrossIterationBatchNorm2d, pair_conv_norm, plain_module


@MODELS.register_module()
class PairedConvModule(ConvModule):
    """``mmcv.cnn.ConvModule`` that pairs a cross-iteration norm with its convolution on construction.

    For models that are trained without ``CrossIterationHook``. Arguments, shapes and names of parameters
    are those of ``ConvModule``.

    Raises:
        ValueError: A cross-iteration norm would not come directly after the convolution.

    Example:
        >>> block = PairedConvModule(3, 8, 3, norm_cfg=dict(type='CBN', window_size=4))
        >>> block(torch.randn(2, 3, 16, 16)).shape
        torch.Size([2, 8, 14, 14])
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        follows = self.order.index('norm') == self.order.index('conv') + 1
        if isinstance(self.norm, CrossIterationBatchNorm2d) and not follows:
            raise ValueError(
                f'order={self.order!r}: {self.norm_cfg["type"]} must directly follow the convolution, as in '
                "('conv', 'norm', 'act')"
            )
        pair_conv_norm(self)


@plain_module.register
def _(module: PairedConvModule) -> ConvModule:
    module.__class__ = ConvModule  # which has all that it has
    return module
