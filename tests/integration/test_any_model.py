"""Models of torchvision and timm as they come, converted: they compute what they did, and train."""

import pickle
import re
from collections.abc import Iterable
from copy import deepcopy
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

pytest.importorskip('timm')

from experiments.any_model import (
    CLASSIFICATION,
    DETECTION,
    SEGMENTATION,
    TIMM,
    TORCHVISION,
    build,
    line_of_table,
)
from mmdet_cbn.layers import StatefulNorm, convert_batch_norm, to_batch_norm

QUICK = (('torchvision', 'mobilenet_v3_small'), ('timm', 'tf_efficientnet_b0'))
WITHOUT_BATCH_NORM = ('alexnet', 'convnext_tiny', 'squeezenet1_0', 'ssd300_vgg16', 'swin_t', 'vit_b_16')
SMALL = {'num_classes': 3, 'min_size': 64, 'max_size': 64}
FEW_REGIONS = {
    'rpn_post_nms_top_n_train': 20,
    'rpn_post_nms_top_n_test': 20,
    'box_batch_size_per_image': 16,
    'box_detections_per_img': 5,
}
OPTIONS = {
    **{name: {'num_classes': 10} for name in (*CLASSIFICATION, *TIMM)},
    **{name: SMALL for name in DETECTION},
    **{name: SMALL | FEW_REGIONS for name in DETECTION if 'rcnn' in name},
    'inception_v3': {'num_classes': 10, 'aux_logits': False},
    'levit_128s': {'num_classes': 10, 'img_size': 64},
    'ssdlite320_mobilenet_v3_large': {'num_classes': 3},
    'ssd300_vgg16': {'num_classes': 3},
}
SIZE = {'maxvit_t': 224, 'inception_v3': 80, 'inception_v4': 80, 'xception41': 80}


def images(name: str) -> Tensor:
    return torch.randn(2, 3, *2 * [SIZE.get(name, 64)])


def loss(name: str, model: nn.Module, x: Tensor) -> Tensor:
    if name in DETECTION:
        boxes = torch.tensor([[8.0, 8.0, 40.0, 48.0]])
        target = {'boxes': boxes, 'labels': torch.tensor([1])}
        target |= {'masks': torch.ones(1, 64, 64, dtype=torch.uint8)}
        target |= {'keypoints': torch.tensor([[[20.0, 20.0, 1.0]]]).expand(1, 17, 3)}
        return sum(model(list(x), [target, target]).values())
    return sum(value.square().mean() for value in tensors(model(x)))


def tensors(output: object) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, dict):
        output = tuple(output.values())
    return [tensor for part in output or () for tensor in tensors(part)]


@torch.no_grad()
def outputs_of_norms(model: nn.Module, names: list[str], x: Tensor) -> dict[str, Tensor]:
    """Run ``model``, and note what the modules of these names return (detections may be none)."""
    seen, handles = {}, []
    for name in names:

        def note(module, inputs, output, name=name):
            seen[name] = output.clone()

        handles.append(model.get_submodule(name).register_forward_hook(note))
    seen['the model'] = torch.cat([t.flatten().float() for t in tensors(model(x))] or [torch.zeros(0)])
    for handle in handles:
        handle.remove()
    return seen


MODELS = [('torchvision', name) for name in TORCHVISION] + [('timm', name) for name in TIMM]


@pytest.mark.parametrize(
    ('library', 'name'),
    [pytest.param(*model, marks=[] if model in QUICK else pytest.mark.slow) for model in MODELS],
)
def test_a_model_computes_what_it_did_trains_and_comes_back(library, name):
    model = build(library, name, **OPTIONS.get(name, {}))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    twin = deepcopy(model)
    report = convert_batch_norm(model, 'CBN', window_size=3)
    assert bool(report.replaced) == (name not in WITHOUT_BATCH_NORM)
    if not report.replaced:
        return
    names, x = list(report.replaced), images(name)
    expected = outputs_of_norms(twin.eval(), names, x)
    found = outputs_of_norms(model.eval(), names, x)
    assert len(expected) >= 0.9 * len(names)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-6, atol=1e-6, msg=key)

    value = loss(name, model.train(), x)
    value.backward()
    assert value.isfinite()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)
    trained = [norm for norm in model.modules() if isinstance(norm, StatefulNorm) and norm.iteration]
    assert len(trained) >= 0.9 * len(names)  # auxiliary heads may be left out
    assert all(norm.window.fill >= 1 for norm in trained)
    assert repr(to_batch_norm(model)) == repr(twin)


def test_a_norm_with_an_activation_goes_through_all_that_a_norm_does():
    from timm.layers import BatchNormAct2d, ConvNormAct, FrozenBatchNormAct2d

    block = ConvNormAct(3, 4, 3, act_layer=nn.SiLU)
    assert convert_batch_norm(block).replaced == {'bn': 'conv'}
    x = torch.randn(2, 3, 6, 6)
    copies = {'deepcopy': deepcopy(block), 'pickle': pickle.loads(pickle.dumps(block))}
    outputs = [model(x) for model in (block, *copies.values())]
    expected = nn.SiLU()(nn.BatchNorm2d(4)(block.conv(x)))
    for output in outputs:
        torch.testing.assert_close(output, expected)
    block.eval()
    expected = block(x)
    exported = [torch.jit.trace(block, x), torch.jit.script(nn.Sequential(block.conv, block.bn))]
    for model in (*exported, torch.fx.symbolic_trace(block), to_batch_norm(block)):
        torch.testing.assert_close(model(x), expected)
    assert type(block.bn) is BatchNormAct2d

    frozen = nn.Sequential(nn.Conv2d(3, 4, 1), FrozenBatchNormAct2d(4)).eval()
    expected = frozen(x)
    assert convert_batch_norm(frozen).left == {'1': 'it is frozen'}
    assert convert_batch_norm(frozen, include_frozen=True).replaced == {'1': '0'}
    torch.testing.assert_close(frozen(x), expected, rtol=1e-6, atol=1e-6)
    assert type(to_batch_norm(frozen)[1]) is BatchNormAct2d


@pytest.mark.parametrize('model', [*QUICK, ('timm', 'densenet121'), ('timm', 'levit_128s')], ids='/'.join)
def test_the_table_of_the_page_is_what_the_command_prints(model):
    page = Path(__file__).parents[2] / 'docs/any_model.md'
    assert line_of_table(*model) in page.read_text().splitlines()


def families(names: Iterable[str]) -> set[str]:
    return {re.match(r'[a-z]+', name).group() for name in names}


@pytest.mark.parametrize(
    ('module', 'names'),
    [
        (torchvision.models, CLASSIFICATION),
        (torchvision.models.detection, DETECTION),
        (torchvision.models.segmentation, SEGMENTATION),
    ],
)
def test_every_family_of_torchvision_takes_part(module, names):
    assert families(names) == families(torchvision.models.list_models(module=module))
