"""CBN and Naive CBN against the literal oracle, along training trajectories in float64."""

import pytest
import torch
from torch import nn

from mmdet_cbn.layers import CrossIterationBatchNorm2d, NaiveCrossIterationBatchNorm2d, pair_conv_norm
from tests.helpers.following import CLOSE, GEOMETRIES, follow, make_conv
from tests.helpers.literal_cbn import LiteralCBN


@pytest.mark.parametrize('geometry', GEOMETRIES.values(), ids=GEOMETRIES)
@pytest.mark.parametrize(('window_size', 'burn_in'), [(4, 0), (2, 3)])
def test_cbn_is_the_papers(geometry, window_size, burn_in):
    conv = make_conv(geometry)
    norm = CrossIterationBatchNorm2d(
        conv.out_channels, window_size=window_size, burn_in=burn_in, dtype=torch.float64
    )
    follow(norm, conv, LiteralCBN(conv.out_channels, window_size, burn_in), lr=0.05)


@pytest.mark.parametrize('window_size', [1, 2, 3, 8, 20])
def test_cbn_window_sizes(window_size):
    conv = make_conv(GEOMETRIES['3x3'])
    norm = CrossIterationBatchNorm2d(6, window_size=window_size, dtype=torch.float64)
    follow(norm, conv, LiteralCBN(6, window_size), lr=0.1)


def test_cbn_where_the_maximum_of_eq_10_takes_over():
    conv = make_conv(GEOMETRIES['3x3'])
    norm = CrossIterationBatchNorm2d(6, window_size=4, dtype=torch.float64)
    oracle = LiteralCBN(6, 4)
    follow(norm, conv, oracle, lr=5.0)
    assert oracle.clamped > 10


@pytest.mark.parametrize('geometry', ['3x3', 'groups', 'depthwise', 'bias', 'rectangle', 'reflect'])
@pytest.mark.parametrize('lr', [0.05, 5.0])
def test_gradient_through_the_window_is_autograds(geometry, lr):
    """Beyond the paper: earlier entries as functions of today's weights, also where the maximum holds."""
    conv = make_conv(GEOMETRIES[geometry])
    norm = CrossIterationBatchNorm2d(
        conv.out_channels, window_size=4, burn_in=1, window_gradient=True, dtype=torch.float64
    )
    oracle = LiteralCBN(conv.out_channels, 4, burn_in=1, window_gradient=True)
    follow(norm, conv, oracle, lr)
    assert oracle.clamped > 10 or lr < 1


def test_gradient_through_the_window_is_orthogonal_to_the_filter():
    """BN's is, since rescaling a filter changes nothing; the paper's is not, since 1 / k of it is missing."""
    share = {}
    for window_gradient in (False, True):
        torch.manual_seed(0)
        conv = make_conv(GEOMETRIES['3x3'])
        norm = CrossIterationBatchNorm2d(6, window_gradient=window_gradient, eps=1e-12, dtype=torch.float64)
        block = nn.Sequential(conv, norm)
        pair_conv_norm(block)
        for _ in range(6):  # weights at rest: the correction is exact
            conv.zero_grad()
            block(torch.randn(2, 4, 9, 8, dtype=torch.float64)).pow(3).sum().backward()
        grad, weight = conv.weight.grad.flatten(1), conv.weight.detach().flatten(1)
        share[window_gradient] = ((grad * weight).sum(1) / grad.norm(dim=1) / weight.norm(dim=1)).abs()
    assert share[True].max() < 1e-9
    assert share[False].min() > 1e-3


@pytest.mark.parametrize(('window_size', 'burn_in'), [(1, 0), (3, 0), (8, 4)])
def test_naive_cbn_averages_what_was_measured(window_size, burn_in):
    conv = make_conv(GEOMETRIES['bias'])
    norm = NaiveCrossIterationBatchNorm2d(6, window_size=window_size, burn_in=burn_in, dtype=torch.float64)
    follow(norm, conv, LiteralCBN(6, window_size, burn_in, compensate=False), lr=0.1)


@pytest.mark.parametrize('options', [{'window_size': 1}, {'window_size': 4, 'burn_in': 10}])
@pytest.mark.parametrize('kind', [CrossIterationBatchNorm2d, NaiveCrossIterationBatchNorm2d])
@pytest.mark.parametrize('bn_options', [{}, {'momentum': None}, {'affine': False}, {'eps': 0.1}])
def test_equals_bn_with_window_size_1_and_in_burn_in(kind, options, bn_options):
    conv = make_conv(GEOMETRIES['3x3'])
    norm = kind(6, **options, **bn_options, dtype=torch.float64)
    bn = nn.BatchNorm2d(6, **bn_options, dtype=torch.float64)
    block = nn.Sequential(conv, norm)
    pair_conv_norm(block)
    for _ in range(10):
        x = torch.randn(3, 4, 5, 7, dtype=torch.float64)
        a, b = (x.clone().requires_grad_() for _ in range(2))
        out, expected = block(a), bn(nn.functional.conv2d(b, conv.weight, padding=1))
        out.pow(3).sum().backward()
        expected.pow(3).sum().backward()
        torch.testing.assert_close(out, expected, **CLOSE)
        torch.testing.assert_close(a.grad, b.grad, **CLOSE)
    for name, value in bn.state_dict().items():
        torch.testing.assert_close(norm.state_dict()[name], value, **CLOSE)
    for name, parameter in bn.named_parameters():
        torch.testing.assert_close(norm.get_parameter(name).grad, parameter.grad, **CLOSE)


@pytest.mark.parametrize('momentum', [None, 0.1])
@pytest.mark.parametrize(
    ('dtype', 'tolerance'), [(torch.float16, 2e-3), (torch.float32, 1e-6), (torch.float64, 1e-6)]
)
def test_running_statistics_keep_their_type(dtype, tolerance, momentum):
    norm = NaiveCrossIterationBatchNorm2d(6, momentum=momentum).to(dtype)
    bn = nn.BatchNorm2d(6, momentum=momentum, dtype=torch.float64)
    for _ in range(3):
        x = torch.randn(2, 6, 5, 4)
        norm(x)
        bn(x.double())
    for name in ('running_mean', 'running_var'):
        running = norm.get_buffer(name)
        assert running.dtype == dtype
        torch.testing.assert_close(running.double(), bn.get_buffer(name), rtol=tolerance, atol=tolerance)


def test_eval_mode_is_bn_and_needs_no_pairing():
    norm = CrossIterationBatchNorm2d(6).eval()
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    bn = nn.BatchNorm2d(6).eval()
    bn.load_state_dict({k: v for k, v in norm.state_dict().items() if k != 'iterations'})
    x = torch.randn(2, 6, 4, 4)
    torch.testing.assert_close(norm(x), bn(x), rtol=0, atol=0)


def test_without_running_statistics_eval_uses_the_batch_as_bn_does():
    conv = nn.Conv2d(4, 6, 1)
    block = nn.Sequential(conv, CrossIterationBatchNorm2d(6, track_running_stats=False))
    pair_conv_norm(block)
    x = torch.randn(2, 4, 5, 5)
    block(x)
    expected = nn.BatchNorm2d(6, track_running_stats=False)(conv(x))
    torch.testing.assert_close(block.eval()(x), expected)


def test_large_means_do_not_cancel():
    """Var = nu - mu^2 of eq. 11 has no digits left in float32 at this mean; the layer's form has them."""
    conv = nn.Conv2d(4, 6, 3, bias=True)
    nn.init.constant_(conv.bias, 1e4)
    block = nn.Sequential(conv, CrossIterationBatchNorm2d(6))
    pair_conv_norm(block)
    for _ in range(5):
        x = torch.randn(2, 4, 16, 16)
        out = block(x)
    assert out.std().item() == pytest.approx(1, rel=0.1)


def test_second_derivatives_are_refused():
    block = nn.Sequential(nn.Conv2d(4, 6, 3), CrossIterationBatchNorm2d(6))
    pair_conv_norm(block)
    x = torch.randn(2, 4, 8, 8, requires_grad=True)
    (grad,) = torch.autograd.grad(block(x).pow(2).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match='once_differentiable'):
        grad.sum().backward()
