"""Convolutions that pad in a way of their own take part in CBN: derivatives against autograd in float64."""

from importlib.util import find_spec

import pytest
import torch
from mmcv.cnn import ConvModule
from mmcv.cnn.bricks.conv2d_adaptive_padding import Conv2dAdaptivePadding
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope
from torch import nn
from torch.nn import functional as F

import mmdet_cbn  # noqa: F401  registers the layers
from mmdet_cbn.layers import (
    CrossIterationBatchNorm2d,
    convert_batch_norm,
    effective_weight,
    padded_input,
    pair_conv_norm,
)

SHAPES = [
    {'kernel_size': 3, 'stride': 2},
    {'kernel_size': (2, 5), 'stride': (1, 3)},
    {'kernel_size': 3, 'dilation': 2, 'groups': 2},
    {'kernel_size': 1, 'stride': 3, 'bias': False},
]


class Reflecting(nn.Conv2d):
    """A user's own: it mirrors one column on the left."""

    def forward(self, x):
        return self._conv_forward(F.pad(x, (1, 0, 0, 0), mode='reflect'), self.weight, self.bias)


effective_weight.register(Reflecting, lambda conv: conv.weight)
padded_input.register(Reflecting, lambda conv, x: F.pad(x, (1, 0, 0, 0), mode='reflect'))


def conv_types() -> list[type[nn.Conv2d]]:
    types = [nn.Conv2d, Conv2dAdaptivePadding, Reflecting]
    if find_spec('timm'):
        from timm.layers import Conv2dSame

        types.append(Conv2dSame)
    return types


def by_autograd(conv: nn.Conv2d, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Differentiate mean and variance of the output; channel j depends on filter j alone."""
    y = conv(x)
    var = y.var((0, 2, 3), unbiased=False)
    return tuple(
        torch.autograd.grad(moment.sum(), conv.weight, retain_graph=True)[0].flatten(1)
        for moment in (y.mean((0, 2, 3)), var)
    )


@pytest.mark.parametrize('kind', conv_types())
@pytest.mark.parametrize('shape', SHAPES, ids=str)
@pytest.mark.parametrize('size', [(8, 9), (7, 12)], ids=str)
@pytest.mark.parametrize('averaging', ['window', 'exponential'])
def test_derivatives_are_those_of_autograd(kind, shape, size, averaging):
    norm = CrossIterationBatchNorm2d(6, window_size=3, averaging=averaging)
    block = nn.Sequential(kind(4, 6, **shape), norm).double()
    pair_conv_norm(block)
    x = torch.randn(2, 4, *size, dtype=torch.float64)
    of_mean, of_var = by_autograd(block[0], x)
    block(x).square().sum().backward()
    window = norm.window
    found = window.mean_derivative[:, 0].repeat_interleave(6 // block[0].groups, 0)
    torch.testing.assert_close(found, of_mean, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(window.variance_derivative[:, 0], of_var, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize('kind', conv_types())
def test_statistics_are_carried_to_new_weights(kind):
    """The mean is linear in the weights: for the same images, the correction of the mean is exact."""
    block = nn.Sequential(
        kind(4, 6, 3, stride=2, bias=False), CrossIterationBatchNorm2d(6, window_size=2)
    ).double()
    pair_conv_norm(block)
    x = torch.randn(2, 4, 8, 9, dtype=torch.float64)
    block(x).sum().backward()
    with torch.no_grad():
        block[0].weight += 0.1 * torch.randn_like(block[0].weight)
        past = block[1].window.statistics(block[0].weight.flatten(1))
        torch.testing.assert_close(past.mean[:, 0], block[0](x).mean((0, 2, 3)), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize('mode', ['reflect', 'replicate', 'circular', 'zeros'])
def test_explicit_padding_layers_of_conv_module(mode):
    """ConvModule pads before the convolution (reflect), or the convolution does by its padding_mode."""
    module = ConvModule(4, 6, 3, padding=1, padding_mode=mode, norm_cfg={'type': 'CBN', 'window_size': 3})
    assert pair_conv_norm(module.double()) == {'bn': 'conv'}
    x = torch.randn(2, 4, 7, 8, dtype=torch.float64)
    y = x if not module.with_explicit_padding else module.padding_layer(x)
    of_mean, of_var = by_autograd(module.conv, y)
    module(x).square().sum().backward()
    window = module.bn.window
    torch.testing.assert_close(window.mean_derivative[:, 0].expand(6, -1), of_mean, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(window.variance_derivative[:, 0], of_var, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize('library', ['mmdet', 'mmpretrain'])
@pytest.mark.parametrize('way', ['norm_cfg', 'convert_batch_norm'])
def test_efficientnet_trains(library, way):
    if library == 'mmpretrain':
        pytest.importorskip('mmpretrain.models')
    init_default_scope(library)
    norm_cfg = {'type': 'CBN', 'window_size': 3} if way == 'norm_cfg' else {'type': 'BN'}
    model = MODELS.build(
        {'type': f'{library}.EfficientNet', 'arch': 'b0', 'norm_cfg': norm_cfg, 'out_indices': (6,)}
    )
    init_default_scope('mmdet')
    if way == 'norm_cfg':
        pairs = pair_conv_norm(model)
    else:
        report = convert_batch_norm(model, 'CBN', window_size=3)
        assert not report.left
        pairs = report.replaced
    assert sum(isinstance(model.get_submodule(conv), Conv2dAdaptivePadding) for conv in pairs.values()) > 10
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    for _ in range(3):
        optimizer.zero_grad()
        loss = model(torch.randn(2, 3, 64, 64))[-1].square().mean()
        loss.backward()
        optimizer.step()
        assert loss.isfinite()
    for norm in pairs:
        assert model.get_submodule(norm).window.fill == 2
