"""The way back to plain batch norm."""

import gc
import pickle
import weakref
from copy import deepcopy

import pytest
import torch
from torch import nn

from mmdet_cbn.layers import StatefulNorm, convert_batch_norm, pair_conv_norm, to_batch_norm
from tests.helpers.norms import NORMS, every_norm


def trained_model(name: str) -> nn.Sequential:
    norm = NORMS[name]
    torch.manual_seed(0)
    last = norm.conv(8, 4, 3), norm(4, affine=False, eps=1e-2)
    model = nn.Sequential(norm.conv(3, 8, 3, bias=False), norm(8), nn.ReLU(), *last).double()
    pair_conv_norm(model)
    for _ in range(5):
        model(torch.randn(4, 3, 9, 9, dtype=torch.float64)).sum().backward()
    return model


@every_norm
def test_the_plain_model_computes_the_same(name):
    model = trained_model(name).eval()
    x = torch.randn(2, 3, 9, 9, dtype=torch.float64)
    with torch.no_grad():
        expected = model(x)
    plain = to_batch_norm(model)
    assert plain is model
    assert [type(module) for module in plain] == [
        nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.Conv2d, nn.BatchNorm2d
    ]  # fmt: skip
    torch.testing.assert_close(plain(x), expected, rtol=1e-12, atol=1e-12)


@every_norm
def test_nothing_of_the_package_is_left(name):
    plain = to_batch_norm(trained_model(name))
    assert b'mmdet_cbn' not in pickle.dumps(plain)
    assert not any(module._forward_hooks for module in plain)
    stock = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.BatchNorm2d(4)
    )
    stock[4] = nn.BatchNorm2d(4, affine=False, eps=1e-2)
    stock.double().load_state_dict(plain.state_dict(), strict=True)
    x = torch.randn(2, 3, 9, 9, dtype=torch.float64)
    torch.testing.assert_close(stock.eval()(x), plain.eval()(x), rtol=0, atol=0)


def test_there_and_back_is_the_model_itself():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, eps=1e-3, momentum=0.2), nn.ReLU()).eval()
    model[1].bias.requires_grad_(False)
    kept = deepcopy(model)
    convert_batch_norm(model, 'CBN')
    plain = to_batch_norm(model)
    assert repr(plain) == repr(kept)
    assert not plain[1].training
    assert not plain[1].bias.requires_grad
    assert {**plain.state_dict()}.keys() == kept.state_dict().keys()
    for name, tensor in kept.state_dict().items():
        assert torch.equal(plain.state_dict()[name], tensor), name


def test_a_plain_model_trains_as_batch_norm():
    model = trained_model('CBN')
    alive = weakref.ref(model[1])
    plain = to_batch_norm(model)
    gc.collect()
    assert alive() is None
    x = torch.randn(2, 3, 9, 9, dtype=torch.float64)
    y = plain[0](x)
    expected = (y - y.mean((0, 2, 3), keepdim=True)) / (
        y.var((0, 2, 3), unbiased=False, keepdim=True) + 1e-5
    ).sqrt()
    weight, bias = (parameter[:, None, None] for parameter in plain[1].parameters())
    torch.testing.assert_close(plain[1](y), weight * expected + bias)


def test_a_shared_block_stays_shared():
    norm = NORMS['MABN']
    block = nn.Sequential(norm.conv(4, 4, 3, padding=1), norm(4))
    plain = to_batch_norm(nn.Sequential(block, nn.Sequential(block), block[0]))
    assert plain[0] is plain[1][0]
    assert plain[2] is plain[0][0]
    assert type(plain[2]) is nn.Conv2d


@pytest.mark.parametrize('name', ['CBN', 'MABN'])
def test_a_layer_alone(name):
    assert type(to_batch_norm(NORMS[name](4))) is nn.BatchNorm2d
    assert not any(isinstance(module, StatefulNorm) for module in to_batch_norm(nn.Sequential()).modules())


@pytest.mark.parametrize('name', ['GhostBN', 'GhostMABN', 'GhostBRN'])
def test_ghost_batches_are_gone(name):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    convert_batch_norm(model, name, norm_batch_size=1)
    model(torch.randn(2, 3, 6, 6)).sum().backward()
    x = torch.randn(2, 3, 6, 6)
    expected = model.eval()(x)
    assert [type(module) for module in to_batch_norm(model)] == [nn.Conv2d, nn.BatchNorm2d]
    torch.testing.assert_close(model(x), expected)
