"""mmcv's ConvModule with its pairing built in."""

import copy
import pickle

import pytest
import torch
from mmcv.cnn import ConvModule
from mmengine.registry import MODELS
from torch import nn

from mmdet_cbn import PairedConvModule
from mmdet_cbn.layers import pair_conv_norm

CBN = {'type': 'CBN', 'window_size': 3}


def images() -> torch.Tensor:
    return torch.randn(2, 4, 8, 8)


@pytest.mark.parametrize(
    'kwargs',
    [
        {},
        {'bias': True},
        {'stride': 2, 'padding': 1, 'dilation': 2, 'groups': 2},
        {'padding': 1, 'padding_mode': 'reflect'},
        {'conv_cfg': {'type': 'CenConv2d'}},
        {'conv_cfg': {'type': 'ConvWS'}},
        {'conv_cfg': {'type': 'ConvAWS'}},
        {'act_cfg': None},
        {'order': ('conv', 'norm', 'act'), 'inplace': False},
        {'order': ('act', 'conv', 'norm'), 'inplace': False},
    ],
    ids=str,
)
def test_trains_from_construction_on(kwargs):
    twin = ConvModule(4, 6, 3, norm_cfg=CBN, **kwargs)
    module = PairedConvModule(4, 6, 3, norm_cfg=CBN, **kwargs)
    module.load_state_dict(twin.state_dict())
    pair_conv_norm(twin)
    for _ in range(3):
        x = images()
        output = module(x)
        assert torch.equal(output, twin(x))
        output.sum().backward()
        with torch.no_grad():
            for parameter, theirs in zip(module.parameters(), twin.parameters(), strict=True):
                parameter.add_(0.1)
                theirs.add_(0.1)
    assert module.norm.window.fill == 2


def test_is_what_conv_module_is():
    sizes = {'in_channels': 4, 'out_channels': 6, 'kernel_size': 3}
    module = MODELS.build({'type': 'PairedConvModule', 'norm_cfg': CBN, **sizes})
    plain = ConvModule(4, 6, 3, norm_cfg={'type': 'BN'})
    assert isinstance(module, ConvModule)
    assert set(module.state_dict()) - set(plain.state_dict()) == {'bn.iterations'}
    assert module.load_state_dict(plain.state_dict()).missing_keys == []
    assert not module.with_bias
    module.eval()
    plain.eval()
    x = images()
    torch.testing.assert_close(module(x), plain(x))


@pytest.mark.parametrize(
    'norm_cfg', [None, {'type': 'BN'}, {'type': 'GN', 'num_groups': 2}, {'type': 'MABN'}]
)
def test_other_norms_are_left_alone(norm_cfg):
    module = PairedConvModule(4, 6, 3, norm_cfg=norm_cfg, order=('conv', 'act', 'norm'))
    assert not module.conv._forward_hooks
    assert module(images()).shape == (2, 6, 6, 6)


def test_pairing_again_changes_nothing():
    module = PairedConvModule(4, 6, 3, norm_cfg=CBN)
    model = nn.Sequential(module)
    assert pair_conv_norm(model) == {'0.bn': '0.conv'}
    assert len(module.conv._forward_hooks) == 1


@pytest.mark.parametrize('duplicate', [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_copies_are_paired_among_themselves(duplicate):
    module = PairedConvModule(4, 6, 3, norm_cfg=CBN)
    twin = duplicate(module)
    for _ in range(3):
        twin(images())
    assert twin.norm.window.fill == 2
    assert module.norm.window is None


@pytest.mark.parametrize('order', [('norm', 'conv', 'act'), ('conv', 'act', 'norm'), ('norm', 'act', 'conv')])
@pytest.mark.parametrize('out_channels', [4, 6])
def test_norm_must_follow_the_convolution(order, out_channels):
    with pytest.raises(ValueError, match='CBN|CrossIteration') as error:
        PairedConvModule(4, out_channels, 3, norm_cfg=CBN, order=order)
    assert repr(order) in str(error.value)


def test_transposed_convolution_is_refused():
    with pytest.raises(TypeError, match='(?s)bn .*conv.*ConvTranspose2d'):
        PairedConvModule(4, 6, 3, conv_cfg={'type': 'deconv'}, norm_cfg=CBN)
