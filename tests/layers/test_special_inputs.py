"""Inputs that are not ordinary: each test fails when their handling is taken out."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from mmdet_cbn.layers import (
    CrossIterationBatchNorm2d,
    MovingAverageBatchNorm2d,
    pair_conv_norm,
)
from tests.helpers.blocks import LAYERS, every_layer, make_block, train
from tests.helpers.snapshot import assert_same, memory


@every_layer
def test_empty_batch_reaches_every_parameter_and_changes_nothing(make):
    block = make_block(make)
    train(block, 4)
    before = memory(block[1])
    block.zero_grad(set_to_none=True)
    out = block(torch.empty(0, 4, 7, 8))
    assert out.shape == (0, 6, 7, 8)
    out.sum().backward()
    for name, parameter in block.named_parameters():
        assert parameter.grad is not None, name
        assert not parameter.grad.any()
    assert_same(before, memory(block[1]))
    train(block, 1)


@every_layer
def test_empty_batch_under_autocast_keeps_its_type(make):
    block = make_block(make)
    with torch.autocast('cpu', torch.bfloat16):
        assert block(torch.empty(0, 4, 7, 8)).dtype == torch.bfloat16


@every_layer
@pytest.mark.parametrize('value', [float('inf'), float('nan')])
def test_non_finite_statistics_do_not_enter(make, value):
    block = make_block(make)
    train(block, 6)
    before = memory(block[1])
    x = torch.randn(2, 4, 7, 8)
    x[1, 2, 3, 3] = value
    out = block(x)
    assert not out.isfinite().all()
    # The counter of burn-in counts every iteration of cross-iteration layers and of BRN's ramp.
    counts = not isinstance(block[1], MovingAverageBatchNorm2d)
    assert_same(before, memory(block[1]), but=('iterations',) if counts else ())
    out = block(torch.randn(2, 4, 7, 8))
    assert out.isfinite().all()
    out.sum().backward()


@every_layer
def test_a_variance_that_overflows_does_not_enter(make):
    """Values that are finite, and so is their mean."""
    block = make_block(make)
    train(block, 3)
    before = memory(block[1])
    block(1e25 * torch.randn(2, 4, 7, 8))
    assert_same(before, memory(block[1]), but=('iterations',))


@every_layer
@pytest.mark.parametrize('value', [float('inf'), float('nan')])
def test_running_values_that_are_not_finite_begin_anew(make, value):
    """As in a new layer; the other channels go on."""
    block, twin = make_block(make), make_block(make)
    twin.load_state_dict(block.state_dict())
    block[1].running_var[1] = block[1].running_mean[2] = value
    twin[1].running_var[1], twin[1].running_mean[2] = 1, 0
    x = torch.randn(2, 4, 7, 8)
    block(x), twin(x)
    running = ('running_mean', 'running_var')
    assert_same(*({name: getattr(one[1], name) for name in running} for one in (block, twin)))
    assert block[1].running_mean.isfinite().all()


@every_layer
def test_statistics_beyond_what_half_buffers_hold(make):
    """A variance of 10^6 where float16 ends at 65504."""
    norm = make_block(make)[1]
    if hasattr(norm, 'window_size'):
        norm.window_size = 1  # nothing to pair
    norm.half()
    for _ in range(60):
        out = norm(1000 * torch.randn(2, 6, 7, 8))
        out.sum().backward()
    for name, value in memory(norm).items():
        assert value.isfinite().all(), name
    assert norm.running_var.min() > 10_000
    norm.running_var.fill_(65504)
    out = norm(torch.randn(2, 6, 7, 8))
    assert (norm.running_var < 65504).all()


def test_mabn_counter_waits_for_finite_statistics():
    block = make_block(LAYERS['MABN'])
    train(block, 2)
    block(torch.full((2, 4, 7, 8), float('nan')))
    assert block[1].iterations == 2


def test_mabn_non_finite_gradients_do_not_enter_psi():
    block = make_block(LAYERS['MABN'])
    train(block, 6)
    block(torch.randn(2, 4, 7, 8)).sum().mul(float('inf')).backward()
    assert block[1].psi_buffer.isfinite().all()
    x = torch.randn(2, 4, 7, 8, requires_grad=True)
    block(x).sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize('name', ['CBN', 'NaiveCBN'])
def test_training_forward_without_grad_uses_the_window_and_does_not_add(name):
    block = make_block(LAYERS[name])
    train(block, 5)
    before = memory(block[1])
    x = torch.randn(2, 4, 7, 8)
    with torch.no_grad():
        first = block(x)
        second = block(x)
    assert_same(before, memory(block[1]), but=('running_mean', 'running_var', 'num_batches_tracked'))
    with_grad = block(x)
    assert torch.equal(first, second)
    assert torch.equal(first, with_grad)
    batch_only = nn.BatchNorm2d(6)(block[0](x))
    assert (first - batch_only).abs().max() > 1e-3
    assert not torch.equal(before['running_mean'], block[1].running_mean)
    assert not torch.equal(before['window.flat'], memory(block[1])['window.flat'])


@pytest.mark.parametrize('name', ['MABN', 'BRN'])
def test_training_forward_without_grad_changes_nothing(name):
    block = make_block(LAYERS[name])
    train(block, 5)
    before = memory(block[1])
    x = torch.randn(2, 4, 7, 8)
    with torch.no_grad():
        first = block(x)
    assert_same(before, memory(block[1]))
    assert torch.equal(first, block(x))
    assert not torch.equal(before['running_var'], block[1].running_var)


@every_layer
def test_reentrant_checkpointing_adds_each_iteration_once(make):
    block, twin = make_block(make), make_block(make)
    twin.load_state_dict(block.state_dict())
    for _ in range(6):
        x = torch.randn(2, 4, 7, 8, requires_grad=True)
        y = x.detach().clone().requires_grad_()
        out, expected = checkpoint(block, x, use_reentrant=True), twin(y)
        assert torch.equal(out, expected)
        out.pow(2).sum().backward()
        expected.pow(2).sum().backward()
        torch.testing.assert_close(x.grad, y.grad)
    # CBN's running statistics move twice, as BN's do.
    but = ('running_mean', 'running_var', 'num_batches_tracked') if hasattr(block[1], 'window') else ()
    assert_same(memory(twin[1]), memory(block[1]), but)


def test_one_value_per_channel_raises_as_bn_does_during_burn_in():
    block = nn.Sequential(nn.Conv2d(4, 6, 1), CrossIterationBatchNorm2d(6, burn_in=1))
    pair_conv_norm(block)
    with pytest.raises(ValueError, match='Expected more than 1 value per channel'):
        block(torch.randn(1, 4, 1, 1))
    block(torch.randn(1, 4, 2, 2))
    running_var = block[1].running_var.clone()
    assert block(torch.randn(1, 4, 1, 1)).isfinite().all()  # the window makes up for it
    assert torch.equal(block[1].running_var, running_var)


def test_unchanged_weights_make_the_window_one_large_batch():
    """Gradient accumulation, or a head shared by levels: earlier entries are exact as they are."""
    block = make_block(lambda: CrossIterationBatchNorm2d(6, window_size=3), bias=True).double()
    batches = [torch.randn(2, 4, 7, 8, dtype=torch.float64) for _ in range(5)]
    for x in batches:
        out = block(x)
    joined = nn.BatchNorm2d(6).double()(block[0](torch.cat(batches[-3:])))
    torch.testing.assert_close(out, joined[-2:], rtol=1e-9, atol=1e-9)


@every_layer
def test_autocast_bfloat16_follows_float32(make):
    block, twin = make_block(make), make_block(make)
    twin.load_state_dict(block.state_dict())
    optimizers = [torch.optim.SGD(b.parameters(), 0.01) for b in (block, twin)]
    for _ in range(8):
        x = torch.randn(2, 4, 7, 8)
        with torch.autocast('cpu', torch.bfloat16):
            out = block(x)
        expected = twin(x)
        assert out.dtype == torch.bfloat16
        torch.testing.assert_close(out.float(), expected, rtol=0.05, atol=0.05)
        for loss, optimizer in zip((out.float(), expected), optimizers, strict=True):
            optimizer.zero_grad()
            loss.pow(3).mean().backward()
            optimizer.step()
    for name, value in memory(block[1]).items():
        assert value.dtype in (torch.float32, torch.int64, torch.bool), name
    torch.testing.assert_close(block[1].running_var, twin[1].running_var, rtol=0.02, atol=1e-3)


@pytest.mark.float16
@pytest.mark.parametrize('name', ['CBN', 'NaiveCBN'])
def test_half_precision_activations_have_float32_statistics(name):
    """The sum of squares of these activations overflows float16 thousands of times."""
    norm = LAYERS[name]()
    conv = nn.Conv2d(4, 6, 1, bias=False)
    block = nn.Sequential(conv, norm)
    pair_conv_norm(block)
    for _ in range(3):
        x = 200 + 30 * torch.randn(2, 4, 60, 60)
        y = conv(x).half()
        if name == 'CBN':
            norm.handover.receive(conv, (x,), {}, y)
        out = norm(y)
        assert out.dtype == torch.float16
        assert out.isfinite().all()
    window = norm.window
    row = (window.position - 1).item() % window.rows
    torch.testing.assert_close(window.mean[:, row], y.double().mean((0, 2, 3)).float(), rtol=1e-4, atol=1e-2)
    assert window.var.dtype == torch.float32
    assert window.fill == 2


@every_layer
def test_channels_last_stays_channels_last(make):
    block = make_block(make).to(memory_format=torch.channels_last)
    twin = make_block(make)
    twin.load_state_dict(block.state_dict())
    for _ in range(5):
        x = torch.randn(2, 4, 7, 8)
        out = block(x.to(memory_format=torch.channels_last))
        assert out.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(out, twin(x), rtol=1e-4, atol=1e-4)
        out.pow(2).sum().backward()


@pytest.mark.parametrize('name', ['CBN', 'NaiveCBN'])
def test_a_larger_window_size_takes_effect_at_once(name):
    block = make_block(LAYERS[name])
    train(block, 4)
    block[1].window_size = 5
    train(block, 6)
    assert block[1].window.fill == 4


def test_an_empty_batch_leaves_no_activations_behind():
    block = make_block(LAYERS['CBN'])
    block(torch.empty(0, 4, 7, 8))
    assert block[1].handover._call is None


@pytest.mark.gpu
@every_layer
def test_training_never_waits_for_the_gpu(make):
    block = make_block(make).cuda()
    x = torch.randn(2, 4, 7, 8, device='cuda')
    for step in range(6):
        torch.cuda.set_sync_debug_mode('error' if step > 3 else 'default')
        try:
            block(x).sum().backward()
        finally:
            torch.cuda.set_sync_debug_mode('default')


@every_layer
def test_inference_mode_before_the_first_step_leaves_no_trace(make):
    block = make_block(make)
    with torch.inference_mode():
        block(torch.randn(2, 4, 7, 8))
    train(block, 3)


def test_a_window_of_another_number_of_groups_is_not_used():
    norm = CrossIterationBatchNorm2d(6)
    for groups in (1, 2):
        conv = nn.Conv2d(4 * groups, 6, 3, groups=groups)
        block = nn.Sequential(conv, norm)
        pair_conv_norm(block)
        block(torch.randn(2, 4 * groups, 7, 8)).sum().backward()
    assert norm.window.fill == 1
    assert norm.window.mean_derivative.size(0) == 2


@pytest.mark.float16
@pytest.mark.parametrize('averaging', ['window', 'exponential'])
def test_large_half_activations_enter_window_and_running_statistics(averaging):
    """The sum of y * x over these positions, divided by their root, overflows float16."""
    norm = CrossIterationBatchNorm2d(6, averaging=averaging)
    block = nn.Sequential(nn.Conv2d(4, 6, 1, bias=False), norm)
    pair_conv_norm(block)
    for _ in range(3):
        x = 200 * (torch.randn(2, 1, 300, 300) + 0.3 * torch.randn(2, 4, 300, 300))
        with torch.autocast('cpu', torch.float16):
            assert block(x).isfinite().all()
    assert norm.num_batches_tracked == 3
    assert (norm.running_var > 2).all()
    assert norm.window.fill > 1


@every_layer
def test_running_values_that_are_nan_leave_the_output_alone(make):
    block = make_block(make)
    block[1].running_var[1] = block[1].running_mean[2] = float('nan')
    assert block(torch.randn(2, 4, 7, 8)).isfinite().all()


def test_mabn_takes_a_mean_in_whenever_it_was_loaded():
    """Also behind the first 1000 iterations: in eval mode a mean would be subtracted."""
    block = make_block(LAYERS['MABN'])
    state = block.state_dict() | {'1.iterations': torch.tensor(2000), '1.running_mean': torch.full((6,), 7.0)}
    block.load_state_dict(state)
    train(block, 1)
    assert not block[1].running_mean.any()


class WhatCudaAsksFor(TorchDispatchMode):
    """Holds the calls of batch norm's backward pass to what CUDA's asserts and the CPU's does not.

    There must be save_mean and save_invstd, empty ones will do, and a weight, whose type its gradient takes.
    """

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.native_batch_norm_backward.default:
            weight, save_mean, save_invstd = args[2], args[5], args[6]
            assert save_mean is not None
            assert save_invstd is not None
            assert weight is not None
        return func(*args, **(kwargs or {}))


@every_layer
def test_batch_norm_backward_is_called_as_cuda_takes_it(make):
    block = make_block(make)
    with WhatCudaAsksFor():
        train(block, 3)


DEVICES = ['cpu', pytest.param('cuda', marks=pytest.mark.gpu)]


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('averaging', ['window', 'exponential'])
def test_compensation_keeps_its_digits_where_matmuls_lose_theirs(averaging, device, monkeypatch):
    """TF32 on GPUs, bfloat16 on CPUs that have it: weights that move in each step, and a large mean."""
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', False)  # those of the convolutions are their own
    outputs, precision = [], torch.get_float32_matmul_precision()
    for dtype in (torch.float64, torch.float32):
        torch.manual_seed(0)
        conv = nn.Conv2d(64, 64, 3, bias=False).to(dtype)
        block = nn.Sequential(conv, CrossIterationBatchNorm2d(64, averaging=averaging, dtype=dtype))
        block.to(device)
        pair_conv_norm(block)
        steps = 1e-4 * torch.randn(6, *conv.weight.shape, dtype=torch.float64)
        for x, step in zip(torch.randn(6, 2, 64, 12, 12, dtype=torch.float64) + 30, steps, strict=True):
            with torch.no_grad():
                conv.weight.add_(step.to(conv.weight))
            y = conv(x.to(conv.weight))
            torch.set_float32_matmul_precision('medium')
            try:
                out = block[1](y)
            finally:
                torch.set_float32_matmul_precision(precision)
        outputs.append(out.double())
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-3, atol=1e-3)


@every_layer
def test_a_derivative_that_overflows_stays_out_of_the_window_alone(make):
    """Inputs near the largest float32 and weights that make ordinary activations of them."""
    block = make_block(make)
    norm = block[1]
    with torch.no_grad():
        block[0].weight.fill_(1e-38)
    before = norm.running_var.clone()
    for _ in range(2):
        x = 1e38 * torch.randn(2, 4, 7, 8).sign()
        out = block(x)
    assert out.isfinite().all()
    if isinstance(norm, CrossIterationBatchNorm2d):
        fill = norm.window.fill
        assert fill == 0 or not fill.isfinite() or norm.averaging == 'exponential' and norm.window.share > 1
        assert norm.window.flat.isfinite().all()
    if not isinstance(norm, MovingAverageBatchNorm2d):
        assert not torch.equal(norm.running_var, before)
        assert norm.num_batches_tracked == 2
