"""What torch's tools do with the layers in eval mode."""

from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.ao.quantization import DeQuantStub, QuantStub, fuse_modules
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mmdet_cbn.layers import fold_centering, pair_conv_norm, to_batch_norm
from tests.helpers.norms import NORMS
from tests.helpers.snapshot import assert_same, memory

VERSION = tuple(map(int, torch.__version__.split('.')[:2]))


@pytest.fixture(params=NORMS)
def trained(request):
    norm = NORMS[request.param]
    model = nn.Sequential(norm.conv(3, 8, 3), norm(8), nn.ReLU())
    pair_conv_norm(model)
    model(torch.randn(4, 3, 9, 9)).sum().backward()
    return model.eval()


dynamo_takes_hooks = pytest.mark.skipif(
    VERSION < (2, 2),
    reason='dynamo of torch 2.1 takes no forward hook that is a bound method',
)


@pytest.mark.parametrize(
    'tool',
    [
        'trace',
        'script',
        'fx',
        pytest.param('export', marks=dynamo_takes_hooks),
        pytest.param('compile', marks=dynamo_takes_hooks),
    ],
)
def test_the_exported_model_computes_the_same(trained, tool):
    x = torch.randn(2, 3, 9, 9)
    if tool == 'trace':
        exported = torch.jit.trace(trained, x)
    elif tool == 'script':
        exported = torch.jit.script(trained)
    elif tool == 'fx':
        exported = torch.fx.symbolic_trace(trained)
    elif tool == 'export':
        exported = torch.export.export(trained, (x,)).module()
    else:
        exported = torch.compile(trained, fullgraph=True, backend='eager')
    torch.testing.assert_close(exported(x), trained(x), rtol=0, atol=0)


def test_quantization_can_be_prepared(trained):
    trained.qconfig = torch.ao.quantization.get_default_qconfig('x86')
    prepared = torch.ao.quantization.prepare(trained)
    x = torch.randn(2, 3, 9, 9)
    torch.testing.assert_close(prepared(x), trained(x))


def test_a_trace_in_training_mode_is_of_bn_and_says_so(trained):
    trained.train()
    before = memory(trained)
    x = torch.randn(2, 3, 9, 9)
    with pytest.warns(UserWarning, match='traced in training mode: the trace normalizes by the batch'):
        traced = torch.jit.trace(trained, x, check_trace=False)
    y = trained[0](x)
    torch.testing.assert_close(traced(x), nn.BatchNorm2d(8)(y).relu())
    assert_same(memory(trained), before)


def test_fx_in_training_mode_is_of_bn_and_says_so(trained):
    trained.train()
    before = memory(trained)
    with pytest.warns(UserWarning, match='traced in training mode: the trace normalizes by the batch'):
        traced = torch.fx.symbolic_trace(trained)
    x = torch.randn(2, 3, 9, 9)
    y = trained[0](x)
    torch.testing.assert_close(traced(x), nn.BatchNorm2d(8)(y).relu())
    assert_same(memory(trained), before)


@pytest.mark.skipif(not hasattr(torch.compiler, 'is_exporting'), reason='torch 2.7 and later say so')
def test_export_in_training_mode_is_refused(trained):
    trained.train()
    before = memory(trained)
    with pytest.raises(RuntimeError, match=r'cannot be exported in training mode.*call eval\(\) before'):
        torch.export.export(trained, (torch.randn(2, 3, 9, 9),), strict=False)
    assert_same(memory(trained), before)


@pytest.mark.skipif(VERSION < (2, 5), reason='torch 2.5 and later have both exporters')
@pytest.mark.parametrize('dynamo', [False, True])
def test_onnxruntime_computes_the_same(trained, dynamo, tmp_path):
    onnxruntime = pytest.importorskip('onnxruntime')
    pytest.importorskip('onnxscript')
    x = torch.randn(2, 3, 9, 9)
    torch.onnx.export(trained, (x,), tmp_path / 'model.onnx', input_names=['x'], dynamo=dynamo)
    session = onnxruntime.InferenceSession(tmp_path / 'model.onnx', providers=['CPUExecutionProvider'])
    (found,) = session.run(None, {'x': x.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), trained(x), rtol=1e-4, atol=1e-5)


def test_a_folded_model_is_quantized_as_with_bn(trained):
    """The oracle is torch's own way with the plain model: fuse, prepare, calibrate, convert."""
    x = torch.randn(8, 3, 9, 9)

    def quantize(parts):
        model = nn.Sequential(QuantStub(), *parts, DeQuantStub()).eval()
        model.qconfig = torch.ao.quantization.get_default_qconfig('x86')
        prepared = torch.ao.quantization.prepare(model)
        prepared(x)
        return torch.ao.quantization.convert(prepared)

    conv, norm, relu = trained
    folded = fold_centering(fuse_conv_bn_eval(conv, norm))
    plain = fuse_modules(to_batch_norm(deepcopy(trained)), [['0', '1']])
    expected = quantize([plain[0], deepcopy(relu)])(x)
    torch.testing.assert_close(quantize([folded, relu])(x), expected, rtol=1e-6, atol=1e-6)
    assert (expected - trained(x)).abs().mean() < 0.05 * trained(x).abs().mean()


def test_a_scripted_model_does_not_train(trained):
    scripted = torch.jit.script(trained)
    with pytest.raises(torch.jit.Error, match='cannot train'):
        scripted.train()(torch.randn(2, 3, 9, 9))


def test_a_folded_model_can_be_scripted(trained):
    x = torch.randn(2, 3, 9, 9)
    expected = trained(x)
    folded = nn.Sequential(fuse_conv_bn_eval(trained[0], trained[1]), trained[2])
    scripted = torch.jit.script(fold_centering(folded))
    torch.testing.assert_close(scripted(x), expected)
