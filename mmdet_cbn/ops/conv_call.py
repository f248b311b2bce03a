"""What the statistics of a convolution's output depend on."""

from dataclasses import dataclass

from torch import Tensor

Pair = tuple[int, int]


@dataclass(frozen=True)
class ConvCall:
    """One call of a convolution, in plain tensors and numbers.

    Attributes:
        x: Its input, shape (N, C_in, H, W).
        weight: The weight that it used, shape (C_out, C_in / groups, kh, kw).
        bias: Shape (C_out,), or None.
        stride: As in ``nn.Conv2d``, down and across.
        padding: Zeros on both sides. Any other padding is in ``x`` already.
        dilation: As in ``nn.Conv2d``.
    """

    x: Tensor
    weight: Tensor
    bias: Tensor | None = None
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)

    @property
    def theta(self) -> Tensor:
        """The weight with a row for each filter, shape (C_out, D), D = C_in / groups * kh * kw."""
        return self.weight.flatten(1)

    @property
    def kernel_size(self) -> Pair:
        """Height and width of the filters."""
        return self.weight.size(2), self.weight.size(3)

    @property
    def groups(self) -> int:
        """Groups of channels that do not see each other."""
        return self.x.size(1) // self.weight.size(1)
