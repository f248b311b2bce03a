"""Convolution with standardized filters: what group normalization gains from where batches are small."""

from torch import Tensor, nn


class StandardizedConv2d(nn.Conv2d):
    """``nn.Conv2d`` whose filters have mean 0 and standard deviation 1 (weight standardization).

    Qiao et al., arXiv 1903.10520, in the form of mmcv's ``ConvWS2d``: w <- (w - mean) / (std + 1e-5), where
    both run over (C_in / groups, kh, kw) and std is the unbiased one. Arguments and shapes are those of
    ``nn.Conv2d``; the parameter ``weight`` is the one before.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``x`` (N, C_in, H, W) with the standardized weight."""
        filters = self.weight.flatten(1)
        mean, std = filters.mean(1, keepdim=True), filters.std(1, keepdim=True)
        return self._conv_forward(x, ((filters - mean) / (std + 1e-5)).view_as(self.weight), self.bias)
