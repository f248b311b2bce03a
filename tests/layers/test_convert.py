"""Batch norms of any model become layers of this package."""

import pickle
from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mmdet_cbn.layers import (
    BatchRenorm2d,
    CenteredConv2d,
    CrossIterationBatchNorm2d,
    StatefulNorm,
    convert_batch_norm,
    pair_conv_norm,
)
from mmdet_cbn.layers.names import NORM_LAYERS

every_norm = pytest.mark.parametrize('norm', NORM_LAYERS)


def arguments(norm: str) -> dict[str, int]:
    return {'norm_batch_size': 1} if norm.startswith('Ghost') else {}


class Block(nn.Module):
    """Convolutions and norms in every order, on 4 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.BatchNorm2d(4)
        self.conv1 = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4, eps=1e-3, momentum=0.3)
        self.conv2 = nn.Conv2d(4, 4, 1)
        self.bn2 = nn.BatchNorm2d(4, affine=False)

    def forward(self, x):
        y = self.bn1(self.conv1(self.before(x).relu())).relu()
        return self.bn2(self.conv2(y)) + x


class Lists(nn.Module):
    """As in Res2Net: convolutions and norms in lists of their own, applied in another order."""

    def __init__(self) -> None:
        super().__init__()
        self.bns = nn.ModuleList(nn.BatchNorm2d(4) for _ in range(2))
        self.convs = nn.ModuleList(nn.Conv2d(4, 4, 1) for _ in range(2))

    def forward(self, x):
        for conv, bn in zip(self.convs, reversed(self.bns), strict=True):
            x = bn(conv(x)).relu()
        return x


class Untraceable(Block):
    """Asks for a value, so that the order of registration has to do."""

    def forward(self, x):
        if x.sum() > 1e9:
            return x
        return self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))


def trained(model: nn.Module) -> nn.Module:
    """Give batch norms statistics and parameters that are not 0 and 1."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                if tensor is not None:
                    nn.init.uniform_(tensor, 0.5, 1.5)
    return model


def centred_by_hand(model: nn.Module, names: tuple[str, ...]) -> nn.Module:
    with torch.no_grad():
        for name in names:
            weight = model.get_submodule(name).weight
            weight -= weight.mean((1, 2, 3), keepdim=True)
    return model


@every_norm
def test_layers_take_over_all_of_a_batch_norm(norm):
    model = trained(Block())
    model.bn1.weight.requires_grad_(False)
    old = {name: dict(model.get_submodule(name).state_dict(keep_vars=True)) for name in ('bn1', 'bn2')}
    report = convert_batch_norm(model, norm, **arguments(norm))
    assert {'bn1': 'conv1', 'bn2': 'conv2'}.items() <= report.replaced.items()
    for name, tensors in old.items():
        new = model.get_submodule(name)
        assert type(new) is NORM_LAYERS[norm]
        assert tensors.keys() <= new.state_dict().keys()
        for key, tensor in tensors.items():
            assert getattr(new, key) is tensor
    assert (model.bn1.eps, model.bn1.momentum) == (
        1e-3,
        0.02 if norm.endswith('MABN') or norm == 'AvgBN' else 0.3,
    )
    assert model.bn2.weight is None
    assert not model.bn1.weight.requires_grad
    assert model.bn1.bias.requires_grad


@every_norm
@pytest.mark.parametrize('make', [Block, Lists, Untraceable])
def test_eval_outputs_are_those_of_the_batch_norms(norm, make):
    model = trained(make()).eval()
    twin = deepcopy(model)
    report = convert_batch_norm(model, norm, **arguments(norm))
    assert (len(report.centred) == 2) == norm.endswith('MABN')
    assert not any(module.training for module in model.modules())
    x = torch.randn(2, 4, 6, 6)
    expected = centred_by_hand(twin, report.centred)(x)
    torch.testing.assert_close(model(x), expected, rtol=1e-6, atol=1e-6)


def test_it_trains_paired():
    """And stays so when the hook pairs again, where the order of registration knows no convolution."""
    model = Lists()
    report = convert_batch_norm(model, 'CBN', window_size=3)
    assert report.replaced == {'bns.1': 'convs.0', 'bns.0': 'convs.1'}
    assert pair_conv_norm(model) == report.replaced
    for one in (model, deepcopy(model), pickle.loads(pickle.dumps(model))):
        one(torch.randn(2, 4, 6, 6)).sum().backward()
        assert [int(bn.window.fill) for bn in one.bns] == [1, 1]


def test_what_is_left_and_why():
    conv = nn.Conv2d(4, 4, 1)
    shared = nn.BatchNorm2d(4)

    class Scaled(nn.BatchNorm2d):
        def forward(self, x):
            return 2 * super().forward(x)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = Block()
            self.first = nn.Sequential(nn.Conv2d(4, 4, 1), shared)
            self.second = nn.Sequential(nn.Conv2d(4, 4, 1), shared)
            self.transposed = nn.Sequential(nn.ConvTranspose2d(4, 4, 1), nn.BatchNorm2d(4))
            self.scaled = nn.Sequential(conv, Scaled(4))
            self.frozen = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4).eval())
            self.hooked = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
            self.hooked[1].register_forward_hook(lambda *arguments: None)
            self.sync = nn.Sequential(nn.Conv2d(4, 4, 1), nn.SyncBatchNorm(4))
            self.flat = nn.BatchNorm1d(4)
            self.volume = nn.BatchNorm3d(4)
            self.lazy = nn.Sequential(nn.Conv2d(4, 4, 1), nn.LazyBatchNorm2d())
            self.two = nn.ModuleList([nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)])

        def forward(self, x):
            return self.two[2](self.two[0](x)) + self.two[2](self.two[1](x))

    report = convert_batch_norm(Model(), 'CBN')
    assert report.replaced == {'block.bn1': 'block.conv1', 'block.bn2': 'block.conv2'}
    assert report.left == {
        'block.before': 'it follows the input of Block, not a convolution (pre-activation)',
        'first.1': 'it is shared by 2 modules',
        'transposed.1': 'transposed.0: ConvTranspose2d is not a torch.nn.Conv2d',
        'scaled.1': 'Scaled has a forward pass of its own',
        'frozen.1': 'it is frozen',
        'hooked.1': 'it has hooks, which would be lost',
        'sync.1': 'SyncBatchNorm has a forward pass of its own',
        'flat': 'BatchNorm1d is not two-dimensional',
        'volume': 'BatchNorm3d is not two-dimensional',
        'lazy.1': 'LazyBatchNorm2d has no size yet; run the model once before',
        'two.2': 'it follows several modules: two.0 (Conv2d), two.1 (Conv2d)',
    }
    assert str(report).startswith('2 of 13 batch norms replaced\n  block.before was left: it follows')


@pytest.mark.parametrize('norm', ['NaiveCBN', 'BRN'])
def test_layers_that_need_no_convolution_replace_every_batch_norm(norm):
    model = Block()
    assert convert_batch_norm(model, norm).replaced['before'] is None
    assert isinstance(model.before, StatefulNorm)


def test_what_cannot_be_centred():
    class Read(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3)
            self.bn = nn.BatchNorm2d(4)

        def forward(self, x):
            y = self.conv(x)
            return self.bn(y) + y

    depthwise = nn.Sequential(nn.Conv2d(4, 4, 1, groups=4), nn.BatchNorm2d(4))
    scaled = nn.Sequential(type('Scaled', (nn.Conv2d,), {})(4, 4, 1), nn.BatchNorm2d(4))
    model = nn.Sequential(Read(), depthwise, scaled)
    expected = {
        '0.bn': 'centring 0.conv would change what reads its output beside the norm',
        '1.1': 'the filters of 1.0 have one weight, which centring would make 0',
        '2.1': 'the filters of 2.0 (Scaled) cannot be centred',
    }
    assert convert_batch_norm(model, 'MABN').left == expected
    assert not any(isinstance(module, CenteredConv2d) for module in model.modules())
    assert len(convert_batch_norm(model, 'CBN').replaced) == 3


def test_a_convolution_shared_by_several_norms_is_centred_once():
    conv = nn.Conv2d(4, 6, 3)
    levels = nn.ModuleList(nn.Sequential(conv, nn.BatchNorm2d(6)) for _ in range(3))
    report = convert_batch_norm(levels, 'MABN')
    assert report.centred == ('0.0',)
    assert all(type(level[0]) is CenteredConv2d and level[0] is conv for level in levels)


class FrozenBatchNorm2d(nn.Module):
    """As torchvision and detectron2 have it: buffers in the place of parameters."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.eps = 1e-5
        for name in ('weight', 'bias', 'running_mean', 'running_var'):
            self.register_buffer(name, torch.rand(channels) + 0.5)

    def forward(self, x):
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


@every_norm
def test_frozen_ones_are_replaced_when_asked(norm):
    model = nn.Sequential(
        nn.Conv2d(4, 4, 1), FrozenBatchNorm2d(4), nn.Conv2d(4, 4, 1), trained(nn.BatchNorm2d(4)).eval()
    )
    expected_left = {'1': 'it is frozen', '3': 'it is frozen'}
    assert convert_batch_norm(deepcopy(model), norm, **arguments(norm)).left == expected_left
    twin = deepcopy(model)
    report = convert_batch_norm(model, norm, include_frozen=True, **arguments(norm))
    assert (model[1].training, model[3].training) == (True, False)
    assert model[1].weight.requires_grad
    x = torch.randn(2, 4, 6, 6)
    expected = centred_by_hand(twin, report.centred).eval()(x)
    torch.testing.assert_close(model.eval()(x), expected, rtol=1e-6, atol=1e-6)


def test_a_model_in_eval_mode_is_not_frozen():
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)).eval()
    model[3].requires_grad_(False)
    report = convert_batch_norm(model)
    assert (report.replaced, report.left) == ({'1': '0'}, {'3': 'it is frozen'})


def test_type_and_device_are_kept():
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
    model[1].double()
    model[3].to_empty(device='meta')
    convert_batch_norm(model, 'MABN')
    for norm, dtype, device in ((model[1], torch.float64, 'cpu'), (model[3], torch.float32, 'meta')):
        assert {(t.dtype, t.device.type) for t in norm.state_dict().values() if t.is_floating_point()} == {
            (dtype, device)
        }
        assert norm.iterations.device.type == device


def test_without_running_statistics():
    """MABN and BRN need them, and say so; the others do as BN does."""
    for norm, replaced in (('CBN', True), ('NaiveCBN', True), ('MABN', False), ('BRN', False)):
        model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, track_running_stats=False))
        report = convert_batch_norm(model, norm, **arguments(norm))
        assert bool(report.replaced) == replaced
        if not replaced:
            assert 'needs track_running_stats=True' in report.left['1']
            assert type(model[0]) is nn.Conv2d


def test_converting_twice_changes_nothing():
    model = Block()
    convert_batch_norm(model, 'CBN')
    norm = model.bn1
    assert convert_batch_norm(model, 'BRN').replaced == {'before': None}
    assert model.bn1 is norm
    assert isinstance(model.before, BatchRenorm2d)


def test_wrong_arguments_are_refused_before_anything_is_replaced():
    model = Block()
    for error, wrong in (
        (ValueError, {'norm': 'SyncBN'}),
        (ValueError, {'window_size': 0}),
        (TypeError, {'windowsize': 2}),
    ):
        with pytest.raises(error):
            convert_batch_norm(model, **wrong)
    with pytest.raises(TypeError, match='must be a torch.nn.Module'):
        convert_batch_norm('model')
    assert not any(isinstance(module, StatefulNorm) for module in model.modules())
    assert convert_batch_norm(nn.BatchNorm2d(4)).left == {'': 'it is the model itself'}


def test_the_identity_and_the_end_of_a_sequential_are_seen_through():
    """As in timm: a deep stem ends in a convolution, and blocks have an Identity where nothing is."""

    class Stem(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1))
            self.nothing = nn.Identity()
            self.bn = nn.BatchNorm2d(4)

        def forward(self, x):
            return self.bn(self.nothing(self.conv(x)))

    model = nn.Sequential(Stem())
    assert convert_batch_norm(model).replaced == {'0.bn': '0.conv.2'}
    model(torch.randn(2, 4, 6, 6)).sum().backward()
    assert isinstance(model[0].bn, CrossIterationBatchNorm2d)
