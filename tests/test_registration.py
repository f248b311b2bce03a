"""The names that configs use, and the weights in use of mmcv's convolutions."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from mmcv.cnn import build_conv_layer, build_norm_layer
from mmcv.cnn.bricks.conv_ws import ConvAWS2d
from mmcv.ops import SAConv2d
from mmdet.registry import HOOKS, MODELS
from mmengine.registry import HOOKS as ROOT_HOOKS
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import DefaultScope
from torch import Tensor, nn

import mmdet_cbn
from mmdet_cbn import layers
from mmdet_cbn.hooks import CrossIterationHook
from mmdet_cbn.layers import effective_weight, pair_conv_norm
from tests.helpers.norms import NORMS

LAYERS = {norm.type: norm.layer for norm in NORMS.values()}

ARGUMENTS = {
    'CBN': {'window_size': 7, 'burn_in': 5},
    'NaiveCBN': {'window_size': 7, 'burn_in': 5},
    'MABN': {'buffer_size': 3, 'warmup_iters': 9, 'r_max': 2.0},
    'BRN': {'r_max': 2.0, 'd_max': 4.0, 'warmup_iters': 9},
}


@pytest.mark.parametrize('registry', [ROOT_MODELS, MODELS], ids=['mmengine', 'mmdet'])
def test_names_resolve(registry):
    for name, layer in LAYERS.items():
        assert registry.get(name) is layer
    assert registry.get('CenConv2d') is layers.CenteredConv2d
    assert registry.get('PairedConvModule') is mmdet_cbn.PairedConvModule


@pytest.mark.parametrize('registry', [ROOT_HOOKS, HOOKS], ids=['mmengine', 'mmdet'])
def test_hook_resolves(registry):
    assert registry.get('CrossIterationHook') is CrossIterationHook


@pytest.mark.parametrize('scope', ['mmengine', 'mmdet'])
@pytest.mark.parametrize('name', LAYERS)
def test_norm_is_built_and_named_as_bn(name, scope):
    arguments = ARGUMENTS.get(name, {})
    with DefaultScope.overwrite_default_scope(scope):
        key, norm = build_norm_layer({'type': name, 'requires_grad': False, **arguments}, 6, postfix=2)
    assert key == 'bn2'
    assert type(norm) is LAYERS[name]
    assert norm.num_features == 6
    assert norm.eps == 1e-5
    assert {argument: getattr(norm, argument) for argument in arguments} == arguments
    assert not any(parameter.requires_grad for parameter in norm.parameters())


@pytest.mark.parametrize('name', LAYERS)
def test_misspelt_argument_of_a_norm_cfg_is_named(name):
    with pytest.raises(TypeError, match="unexpected keyword argument 'windowsize'"):
        build_norm_layer({'type': name, 'windowsize': 3}, 6)


def test_centred_convolution_is_built():
    conv = build_conv_layer({'type': 'CenConv2d'}, 3, 8, 3, padding=1, bias=False)
    assert type(conv) is layers.CenteredConv2d


@pytest.mark.slow
def test_custom_imports_are_all_that_a_config_needs(tmp_path):
    config = tmp_path / 'config.py'
    config.write_text(
        textwrap.dedent("""
        _base_ = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'
        custom_imports = dict(imports=['mmdet_cbn'])
        custom_hooks = [dict(type='CrossIterationHook', burn_in_epochs=3)]
        norm_cfg = dict(type='CBN', window_size=5)
        model = dict(
            backbone=dict(norm_cfg=dict(_delete_=True, **norm_cfg), init_cfg=None),
            neck=dict(norm_cfg=norm_cfg),
            bbox_head=dict(norm_cfg=norm_cfg))
        """)
    )
    script = textwrap.dedent(f"""
        import json, sys
        from collections import Counter
        from mmengine.config import Config
        from mmengine.registry import init_default_scope
        cfg = Config.fromfile({str(config)!r})
        init_default_scope('mmdet')
        from mmdet.registry import HOOKS, MODELS
        model = MODELS.build(cfg.model)
        hook = HOOKS.build(cfg.custom_hooks[0])
        norms = [m for m in model.modules() if hasattr(m, 'running_mean')]
        kinds = Counter((type(m).__name__, m.window_size) for m in norms)
        json.dump([list(kinds.items()), type(hook).__name__, hook.burn_in_epochs], sys.stdout)
    """)
    root = Path(mmdet_cbn.__file__).parents[1]
    run = subprocess.run([sys.executable, '-c', script], cwd=root, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    kinds, hook, epochs = json.loads(run.stdout.splitlines()[-1])
    # 20 in ResNet-18, 8 in the FPN, 4 for each of the two branches of the head
    assert kinds == [[['CrossIterationBatchNorm2d', 5], 36]]
    assert (hook, epochs) == ('CrossIterationHook', 3)


def probed_weight(conv: nn.Conv2d) -> Tensor:
    """Read the weight off the outputs for impulses, knowing nothing but that the layer convolves."""
    kh, kw = conv.kernel_size
    channels = conv.in_channels // conv.groups
    weight = torch.zeros(conv.out_channels, channels, kh, kw, dtype=torch.float64)
    silence = conv(torch.zeros(1, conv.in_channels, kh, kw, dtype=torch.float64))
    for c in range(channels):
        for i in range(kh):
            for j in range(kw):
                impulse = torch.zeros(1, conv.in_channels, kh, kw, dtype=torch.float64)
                impulse[:, c::channels, i, j] = 1  # one in every group
                weight[:, c, i, j] = (conv(impulse) - silence).flatten()
    return weight


@pytest.mark.parametrize('groups', [1, 2])
@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('kind', ['Conv2d', 'ConvWS', 'ConvAWS', 'CenConv2d'])
def test_effective_weight_is_the_one_in_use(kind, bias, groups):
    conv = build_conv_layer({'type': kind}, 4, 6, (3, 2), groups=groups, bias=bias).double()
    for tensor in (*conv.parameters(), *conv.buffers()):
        nn.init.normal_(tensor, 0.5)
    with torch.no_grad():
        expected = probed_weight(conv)
    torch.testing.assert_close(effective_weight(conv), expected, rtol=1e-10, atol=1e-12)


def test_effective_weight_of_conv_aws_from_a_checkpoint():
    """It takes gamma and beta from the weights that it loads."""
    conv = ConvAWS2d(4, 6, 3).double()
    conv.load_state_dict(nn.Conv2d(4, 6, 3).double().state_dict(), strict=False)
    assert conv.weight_beta.any()
    with torch.no_grad():
        expected = probed_weight(conv)
    torch.testing.assert_close(effective_weight(conv), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize('base', ['Conv2d', 'ConvWS', 'ConvAWS', 'CenConv2d'])
def test_subclass_that_changes_the_weight_is_refused(base):
    class Doubled(ROOT_MODELS.get(base)):
        def forward(self, x):
            return super().forward(2 * x)

    model = nn.Sequential(Doubled(4, 6, 3), layers.CrossIterationBatchNorm2d(6))
    with pytest.raises(TypeError, match='(?s)1 .*0.*Doubled'):
        pair_conv_norm(model)


def test_switchable_atrous_convolution_is_refused():
    """Two convolutions under a switch, although mmcv derives it from ConvAWS2d."""
    model = nn.Sequential(SAConv2d(4, 6, 3), layers.CrossIterationBatchNorm2d(6))
    with pytest.raises(TypeError, match='SAConv2d'):
        pair_conv_norm(model)


@pytest.mark.parametrize('kind', ['deconv', 'DCN', 'DCNv2'])
def test_convolution_without_one_weight_is_refused(kind):
    conv = MODELS.get(kind)(4, 6, 3)
    model = nn.Sequential(conv, layers.CrossIterationBatchNorm2d(6))
    with pytest.raises(TypeError, match=f'(?s)1 .*0.*{type(conv).__name__}.*[Uu]se another norm'):
        pair_conv_norm(model)
