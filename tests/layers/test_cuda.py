"""The layers on a GPU beside themselves on the CPU, where oracles of the papers' formulas hold them."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from mmdet_cbn.layers import CrossIterationBatchNorm2d, pair_conv_norm
from tests.helpers.blocks import every_layer, make_block
from tests.helpers.following import GEOMETRIES, make_conv
from tests.helpers.snapshot import assert_nearly_same, snapshot

pytestmark = pytest.mark.gpu
STEPS = 6
every_format = pytest.mark.parametrize(
    'memory_format', [torch.contiguous_format, torch.channels_last], ids=['contiguous', 'channels_last']
)


def train_step(block: nn.Module, x: Tensor, half: torch.dtype | None = None) -> Tensor:
    """Train to tell apart what is above 0 in ``x``; return the output."""
    with torch.autocast(x.device.type, half, enabled=half is not None):
        out = block(x)
    block.zero_grad()
    (out.to(x.dtype) - x.sign().mean()).sin().square().mean().backward()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter -= 0.1 * parameter.grad
    return out.detach()


def train_both(block: nn.Module, memory_format: torch.memory_format) -> None:
    """Train ``block``, in float64, and its copy on the GPU side by side."""
    copy = deepcopy(block).cuda().to(memory_format=memory_format)
    for _ in range(STEPS):
        x = torch.randn(4, 4, 13, 8, dtype=torch.float64) + 1
        expected = train_step(block, x)
        out = train_step(copy, x.cuda().contiguous(memory_format=memory_format))
        torch.testing.assert_close(out.cpu(), expected, rtol=1e-9, atol=1e-9)
        found = {name: value.cpu() for name, value in snapshot(copy).items()}
        assert_nearly_same(found, snapshot(block), 1e-9)


@every_layer
@every_format
def test_every_layer_trains_as_on_the_cpu(make, memory_format):
    train_both(make_block(make).double(), memory_format)


@pytest.mark.parametrize('geometry', GEOMETRIES.values(), ids=GEOMETRIES)
@pytest.mark.parametrize('fraction', [1, 1 / 4])
def test_every_convolution_trains_as_on_the_cpu(geometry, fraction):
    conv = make_conv(geometry)
    norm = CrossIterationBatchNorm2d(
        conv.out_channels, derivative_fraction=fraction, window_gradient=True, dtype=torch.float64
    )
    block = nn.Sequential(conv, norm)
    pair_conv_norm(block)
    train_both(block, torch.contiguous_format)


@every_layer
@every_format
@pytest.mark.parametrize(('half', 'tolerance'), [(torch.float16, 0.01), (torch.bfloat16, 0.05)])
def test_half_precision_stays_beside_float64(make, memory_format, half, tolerance):
    block = make_block(make)
    copy = deepcopy(block).cuda().to(memory_format=memory_format)
    block.double()
    for _ in range(STEPS):
        x = torch.randn(4, 4, 13, 8) + 1
        expected = train_step(block, x.double())
        out = train_step(copy, x.cuda().contiguous(memory_format=memory_format), half)
        assert out.dtype == half
        assert out.is_contiguous(memory_format=memory_format)
        error = (out.cpu().double() - expected).square().mean().sqrt()
        assert error < tolerance * expected.square().mean().sqrt()
    assert all(value.isfinite().all() for value in snapshot(copy).values())
