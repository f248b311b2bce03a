"""Large, small and shifted values: as with ordinary ones, to the digits of the type."""

import pytest
import torch
from torch import nn

from mmdet_cbn.layers import pair_conv_norm
from tests.helpers.literal_brn import LiteralBRN
from tests.helpers.literal_cbn import LiteralCBN
from tests.helpers.literal_exponential import LiteralExponentialCBN
from tests.helpers.literal_mabn import LiteralMABN
from tests.helpers.norms import NORMS

LITERAL = {
    'CBN': lambda: LiteralCBN(6, 3),
    'CBN with window_gradient': lambda: LiteralCBN(6, 3, window_gradient=True),
    'CBN, exponential': lambda: LiteralExponentialCBN(6, 3, window_gradient=True),
    'NaiveCBN': lambda: LiteralCBN(6, 3, compensate=False),
    'MABN': lambda: LiteralMABN(6, m=3, warmup=2, r_max=5.0, momentum=0.02),
    'BRN': lambda: LiteralBRN(6, warmup=3, r_max=3.0, d_max=5.0, momentum=0.1),
}
every_formula = pytest.mark.parametrize('name', LITERAL)


def make_block(name: str, **options: object) -> nn.Sequential:
    norm = NORMS[name]
    block = nn.Sequential(norm.conv(4, 6, 3, bias=False), norm(6, **options))
    pair_conv_norm(block)
    return block


@every_formula
@pytest.mark.parametrize('scale', [1e-20, 1e-10, 1e-3, 1.0, 1e3, 1e10, 1e18])
def test_float32_follows_the_formulas_at_any_scale(name, scale):
    block, model = make_block(name), LITERAL[name]()
    conv = block[0]
    for _ in range(6):
        x = (scale * torch.randn(2, 4, 7, 8)).requires_grad_()
        weight = conv.weight.double()
        if NORMS[name].conv is not nn.Conv2d:
            weight = weight - weight.mean((1, 2, 3), keepdim=True)
        expected = model(nn.functional.conv2d(x.double(), weight), conv)
        out = block(x)
        torch.testing.assert_close(out.double(), expected, rtol=1e-3, atol=1e-3)
        out.square().mean().backward()
        assert x.grad.isfinite().all()
        with torch.no_grad():
            conv.weight.addcmul_(conv.weight, torch.randn_like(conv.weight), value=0.01)
    for value, wanted in (
        (block[1].running_mean, model.running_mean),
        (block[1].running_var, model.running_var),
    ):
        torch.testing.assert_close(value.double(), wanted, rtol=1e-3, atol=1e-4 * min(scale, 1))


@every_formula
@pytest.mark.parametrize('offset', [1.0, 1e3, 1e6])
def test_an_offset_of_the_input_changes_nothing(name, offset):
    """Weights at rest; MABN's centred convolution takes it away."""
    warmup = {'warmup_iters': 1000} if name == 'BRN' else {}
    block = make_block(name, **warmup).double()
    other = make_block(name, **warmup).double()
    other.load_state_dict(block.state_dict())
    for _ in range(6):
        x = torch.randn(2, 4, 7, 8, dtype=torch.float64)
        found, expected = other(x + offset), block(x)
        if name == 'BRN':  # its d is of order offset, and ramps
            found, expected = (y - y.mean((0, 2, 3), keepdim=True) for y in (found, expected))
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
