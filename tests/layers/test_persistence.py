"""What copies, checkpoints and changes of device or type keep of a layer's memory."""

import io
import pickle
from copy import deepcopy

import pytest
import torch
from torch import nn

from mmdet_cbn.layers import (
    CrossIterationBatchNorm2d,
    MovingAverageBatchNorm2d,
    NaiveCrossIterationBatchNorm2d,
)
from tests.helpers.blocks import LAYERS, every_layer, make_block, train
from tests.helpers.snapshot import assert_same, memory


def saved(module: nn.Module) -> nn.Module:
    buffer = io.BytesIO()
    torch.save(module, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


@every_layer
@pytest.mark.parametrize('copy', [deepcopy, saved, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_continue_as_the_original(make, copy):
    block = make_block(make)
    train(block, 5)
    twin = copy(block)
    assert_same(memory(block[1]), memory(twin[1]))
    for _ in range(4):
        x = torch.randn(2, 4, 7, 8)
        assert torch.equal(block(x), twin(x))


@pytest.mark.parametrize('copy', [deepcopy, saved])
def test_a_copy_after_an_interrupted_forward(copy):
    """The activations of a convolution whose norm was never called are neither copied nor saved."""
    block = make_block(LAYERS['CBN'])
    block[0](torch.randn(2, 4, 7, 8))
    train(copy(block), 2)


@every_layer
def test_state_dict_round_trip_keeps_the_small_things(make):
    block, other = make_block(make), make_block(make)
    train(block, 5)
    buffer = io.BytesIO()
    torch.save(block.state_dict(), buffer)
    buffer.seek(0)
    other.load_state_dict(torch.load(buffer, weights_only=True), strict=True)
    for name, value in block.named_buffers():
        assert torch.equal(other.get_buffer(name), value), name
    assert block[1].iterations == 5
    assert not any('window' in name for name in block.state_dict())


@pytest.mark.parametrize('name', ['CBN', 'NaiveCBN'])
def test_burn_in_continues_after_a_resume(name):
    block = make_block(LAYERS[name])
    block[1].burn_in = 6
    train(block, 5)
    resumed = make_block(LAYERS[name])
    resumed[1].burn_in = 6
    resumed.load_state_dict(block.state_dict())
    train(resumed, 1)
    assert resumed[1].window is None
    train(resumed, 2)
    assert resumed[1].window.fill == 2


@every_layer
def test_a_bn_checkpoint_loads_strictly_and_does_not_end_burn_in(make):
    bn = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6))
    train(bn, 20, lr=1e-4)
    block = make_block(make)
    result = block.load_state_dict(bn.state_dict(), strict=True)
    assert not result.missing_keys
    assert not result.unexpected_keys
    assert block[1].num_batches_tracked == 20
    assert block[1].iterations == 0
    x = torch.randn(2, 4, 7, 8)
    if 'MovingAverage' not in repr(block):
        torch.testing.assert_close(block.eval()(x), bn.eval()(x), rtol=0, atol=0)


def test_other_missing_keys_are_still_reported():
    state = nn.BatchNorm2d(6).state_dict()
    del state['running_var']
    assert CrossIterationBatchNorm2d(6).load_state_dict(state, strict=False).missing_keys == ['running_var']


@every_layer
def test_bn_loads_what_the_layer_saved(make):
    block = make_block(make)
    train(block, 3)
    bn = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6))
    assert not bn.load_state_dict(block.state_dict(), strict=False).missing_keys
    x = torch.randn(2, 4, 7, 8)
    if 'MovingAverage' not in repr(block):
        torch.testing.assert_close(bn.eval()(x), block.eval()(x), rtol=0, atol=0)


@every_layer
def test_to_float64_continues_with_float64_statistics(make):
    block = make_block(make)
    train(block, 4)
    block.double()
    train(block, 4)
    for name, value in memory(block[1]).items():
        assert value.dtype in (torch.float64, torch.int64), name


@pytest.mark.parametrize('name', ['CBN', 'NaiveCBN'])
def test_half_leaves_the_window_in_float32(name):
    block = make_block(LAYERS[name])
    train(block, 4)
    block.half()
    assert block[1].weight.dtype == torch.float16
    assert block[1].window.mean.dtype == torch.float32


def test_to_moves_the_window():
    block = make_block(LAYERS['CBN'])
    train(block, 4)
    block.to('meta')
    assert block[1].window.variance_derivative.device.type == 'meta'
    assert block[1].window.position.device.type == 'meta'


def test_mabn_takes_the_mean_of_a_bn_checkpoint_into_its_mean_of_squares():
    """Eval mode would go on subtracting a mean that training never subtracts."""
    norm = MovingAverageBatchNorm2d(6)
    norm.running_mean.fill_(2)
    x = 2 + torch.randn(64, 6, 8, 8)
    for _ in range(3):
        norm(x)
    assert not norm.running_mean.any()
    torch.testing.assert_close(norm.eval()(x), x / 5**0.5, rtol=0.05, atol=0.05)


@pytest.mark.parametrize('name', ['NaiveCBN', 'MABN of another size'])
def test_mabn_starts_anew_from_a_checkpoint_without_its_buffers(name):
    """A counter without its buffers would make the layer average zeros."""
    other = LAYERS['NaiveCBN']() if name == 'NaiveCBN' else MovingAverageBatchNorm2d(6, buffer_size=5)
    other.iterations.fill_(5000)
    norm = LAYERS['MABN']()
    norm(torch.randn(4, 6, 8, 8))
    with pytest.warns(UserWarning, match=r'iterations.*MovingAverageBatchNorm2d starts anew'):
        norm.load_state_dict(other.state_dict(), strict=name != 'NaiveCBN')
    assert norm.iterations == 0
    assert norm(torch.randn(64, 6, 8, 8)).std().item() == pytest.approx(1, rel=0.05)


def test_a_trained_layer_forgets_its_counter_with_the_checkpoint_of_a_bn():
    block = make_block(LAYERS['CBN'])
    train(block, 5)
    block[1].load_state_dict(nn.BatchNorm2d(6).state_dict())
    assert block[1].iteration == block[1].iterations == 0


def test_the_window_does_not_outlive_its_weights():
    block = make_block(LAYERS['CBN'])
    train(block, 5)
    block.load_state_dict(make_block(LAYERS['CBN']).state_dict())
    assert block[1].window is None


@every_layer
def test_mmengine_initializes_the_layers_as_batch_norm(make):
    """Its ``init_cfg`` looks at the names of direct bases."""
    assert '_BatchNorm' in [base.__name__ for base in type(make()).__bases__]


@pytest.mark.parametrize('window_size', [1, 3])
def test_the_counter_on_the_host_follows_the_buffer_after_a_checkpoint(window_size):
    norm = NaiveCrossIterationBatchNorm2d(6, window_size=window_size)
    norm.load_state_dict(norm.state_dict())
    for _ in range(2):
        norm(torch.randn(2, 6, 4, 4))
    assert norm.iteration == norm.iterations == 2
