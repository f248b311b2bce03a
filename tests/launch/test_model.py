"""Models that are right, or may be meant as they are, pass."""

import pytest

pytest.importorskip('mmdet')

from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmdet_cbn.launch import LaunchError
from mmdet_cbn.launch.model import check_model

CBN = {'type': 'CBN', 'window_size': 4}
MABN = {'type': 'MABN'}
CENTRED = {'type': 'CenConv2d'}
HOOK = [{'type': 'CrossIterationHook'}]


def check(hooks=(), training=True, sync_bn=None, **settings):
    """Build a ResNet with these settings; return where its norms know their convolutions."""
    init_default_scope('mmdet')
    model = {'type': 'ResNet', 'depth': 18, 'base_channels': 4, 'norm_eval': False, 'frozen_stages': -1}
    cfg = Config({'model': {**model, **settings}, 'custom_hooks': list(hooks), 'sync_bn': sync_bn})
    before = cfg.to_dict()
    built = check_model(cfg, training)
    assert cfg.to_dict() == before
    return built


@pytest.mark.parametrize(
    'settings',
    [
        {'norm_cfg': CBN, 'hooks': HOOK},
        {'norm_cfg': {**CBN, 'window_size': 1}},  # BN, which needs no hook
        {'norm_cfg': CBN, 'norm_eval': True},
        {'norm_cfg': CBN, 'training': False},
        {'norm_cfg': {'type': 'NaiveCBN', 'requires_grad': False}},
        {'norm_cfg': MABN, 'conv_cfg': CENTRED},
        {'norm_cfg': {'type': 'BN'}, 'conv_cfg': CENTRED},
        {'norm_cfg': MABN, 'training': False},
    ],
)
def test_passes_silently(settings, capsys):
    check(**settings)
    assert capsys.readouterr().err == ''


def test_mabn_without_any_centred_convolution_may_be_an_ablation(capsys):
    check(norm_cfg=MABN)
    (line,) = capsys.readouterr().err.splitlines()
    assert 'warning: 20 MABN layers, e.g. bn1, do not follow a CenConv2d' in line
    assert "conv_cfg=dict(type='CenConv2d')" in line


@pytest.mark.parametrize('implementation', ['torch', 'mmcv'])
@pytest.mark.parametrize('kind', ['CBN', 'NaiveCBN', 'MABN', 'BRN'])
def test_sync_bn_would_replace_the_layers(kind, implementation):
    conv_cfg = CENTRED if kind == 'MABN' else None
    message = f"sync_bn='{implementation}'.* 20 layers of mmdet_cbn, e.g. bn1 .*remove it.*sync=True"
    with pytest.raises(LaunchError, match=message):
        check(norm_cfg={'type': kind}, conv_cfg=conv_cfg, hooks=HOOK, sync_bn=implementation)


def test_sync_bn_is_what_bn_may_want():
    check(norm_cfg={'type': 'BN'}, sync_bn='torch')
