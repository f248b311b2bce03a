"""What a layer remembers, carried over to another process: all of it, or a reason."""

import io
import re

import pytest
import torch

from mmdet_cbn.layers import (
    CrossIterationBatchNorm2d,
    MovingAverageBatchNorm2d,
    NaiveCrossIterationBatchNorm2d,
)
from mmdet_cbn.layers.local_state import load_local_state, local_state
from tests.helpers.blocks import LAYERS, every_layer, make_block, train
from tests.helpers.snapshot import assert_same, memory


def through_a_file(state: dict) -> dict:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def trained(make, steps=5):
    block = make_block(make)
    train(block, steps)
    return block


def twin_of(block, make):
    """Return another block with the checkpoint of ``block``."""
    twin = make_block(make)
    twin.load_state_dict(block.state_dict(), strict=False)
    return twin


def steps(block, number=6):
    """Train on data of its own; return the outputs down to the last bit."""
    generator = torch.Generator().manual_seed(3)
    optimizer = torch.optim.SGD(block.parameters(), 1e-3)
    outputs = []
    for _ in range(number):
        optimizer.zero_grad()
        outputs.append(block(torch.randn(2, 4, 7, 8, generator=generator)))
        outputs[-1].pow(3).sum().backward()
        optimizer.step()
    return torch.stack(outputs)


@every_layer
def test_goes_on_bit_for_bit(make):
    block = trained(make)
    twin = twin_of(block, make)
    assert load_local_state(twin, through_a_file(local_state(block))) == {}
    assert_same(memory(block[1]), memory(twin[1]))
    assert torch.equal(steps(block), steps(twin))
    assert_same(memory(block[1]), memory(twin[1]))


@pytest.mark.parametrize('name', ['CBN', 'NaiveCBN'])
def test_a_checkpoint_alone_does_not(name):
    block = trained(LAYERS[name])
    assert not torch.equal(steps(twin_of(block, LAYERS[name])), steps(block))


@every_layer
def test_buffers_of_the_process_replace_those_of_the_checkpoint(make):
    """In several processes a checkpoint has those of the main one."""
    block = trained(make)
    twin = twin_of(block, make)
    for buffer in twin[1].buffers():
        buffer.fill_(7)
    load_local_state(twin, local_state(block))
    assert_same(memory(block[1]), memory(twin[1]))
    if hasattr(twin[1], 'iteration'):
        assert twin[1].iteration == block[1].iteration == 5


def test_shares_nothing_with_what_was_loaded():
    block = trained(LAYERS['CBN'])
    state = local_state(block)
    twin = twin_of(block, LAYERS['CBN'])
    load_local_state(twin, state)
    before = memory(block[1])
    train(twin, 3)
    assert_same(before, memory(block[1]))


def test_during_burn_in_there_is_no_window():
    def make():
        return CrossIterationBatchNorm2d(6, burn_in=100)

    block = trained(make)
    twin = twin_of(block, make)
    assert load_local_state(twin, through_a_file(local_state(block))) == {}
    assert twin[1].window is None
    assert twin[1].iteration == 5


OTHERS = {
    'window_size': (lambda: CrossIterationBatchNorm2d(6, window_size=5), 'window_size=3.*window_size=5'),
    'type': (lambda: NaiveCrossIterationBatchNorm2d(6, window_size=3), 'Naive'),
    'without window': (LAYERS['BRN'], 'BatchRenorm2d'),
}


@pytest.mark.parametrize(('make', 'reason'), OTHERS.values(), ids=OTHERS)
def test_what_does_not_fit_is_left_with_a_reason(make, reason):
    block = trained(LAYERS['CBN'])
    twin = twin_of(block, make)
    reasons = load_local_state(twin, local_state(block))
    assert reasons.keys() == {'1'}
    assert re.search(reason, reasons['1'])
    assert getattr(twin[1], 'window', None) is None
    assert twin(torch.randn(2, 4, 7, 8)).isfinite().all()


def test_another_buffer_size():
    block = trained(LAYERS['MABN'])
    other = make_block(lambda: MovingAverageBatchNorm2d(6, buffer_size=7))
    assert 'another size' in load_local_state(other, local_state(block))['1']
    assert other[1].iterations == 0


def test_other_weights():
    """The file of another run that saved its checkpoint under the same name."""
    block = trained(LAYERS['CBN'])
    state = through_a_file(local_state(block))
    train(block, 1)
    twin = twin_of(block, LAYERS['CBN'])
    assert 'other weights' in load_local_state(twin, state)['1']
    assert twin[1].window is None
    assert twin[1].iteration == 6


def test_another_version():
    block = trained(LAYERS['CBN'])
    state = through_a_file(local_state(block))
    state['1']['window']['fill'] = state['1']['window'].pop('taken')
    twin = twin_of(block, LAYERS['CBN'])
    assert 'another version' in load_local_state(twin, state)['1']
    assert twin[1].window is None
    assert twin[1].iteration == 5


@pytest.mark.parametrize(('saved', 'own'), [('CBN', 'CBN, exponential'), ('CBN, exponential', 'CBN')])
def test_another_averaging(saved, own):
    block = trained(LAYERS[saved])
    twin = twin_of(block, LAYERS[own])
    assert 'another averaging' in load_local_state(twin, through_a_file(local_state(block)))['1']
    assert twin[1].window is None


def test_another_convolution():
    block = trained(LAYERS['CBN'])
    other = make_block(LAYERS['CBN'], kernel_size=1, padding=0)
    other[1].load_state_dict(block[1].state_dict())
    assert 'another convolution' in load_local_state(other, local_state(block))['1']
    assert other[1].window is None


def test_nothing_saved_empties_the_window():
    block = trained(LAYERS['CBN'])
    assert load_local_state(block, {}) == {'1': 'nothing was saved of it'}
    assert block[1].window is None


@pytest.mark.gpu
def test_goes_back_to_the_gpu():
    block = trained(LAYERS['CBN']).cuda()
    twin = twin_of(block, LAYERS['CBN']).cuda()
    buffer = io.BytesIO()
    torch.save(local_state(block), buffer)
    buffer.seek(0)
    assert load_local_state(twin, torch.load(buffer, weights_only=True, map_location='cpu')) == {}
    x = torch.randn(2, 4, 7, 8, device='cuda')
    assert torch.equal(block(x), twin(x))
