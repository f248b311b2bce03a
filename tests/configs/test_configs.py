"""Every COCO config against the table: parts, norms, what is frozen, options; and a step of training."""

import argparse
from pathlib import Path

import pytest
import torch
from mmcv.cnn import ConvModule
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config, DictAction
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmdet_cbn import layers
from tests.configs.building import CONFIGS, build, build_once, each_row, norms_of, part, read, read_once
from tests.configs.expected import ROWS, Norm, Row

FOLDERS = ('baselines', 'cbn', 'mabn')

NORM_CLASSES = {
    'BN': nn.BatchNorm2d,
    'SyncBN': nn.SyncBatchNorm,
    'GN': nn.GroupNorm,
    'BRN': layers.BatchRenorm2d,
    'CBN': layers.CrossIterationBatchNorm2d,
    'NaiveCBN': layers.NaiveCrossIterationBatchNorm2d,
    'MABN': layers.MovingAverageBatchNorm2d,
}
HEADS = {
    '4c1f': ('Shared4Conv1FCBBoxHead', {'shared_convs': 4, 'shared_fcs': 1}),
    '0c2f': ('Shared2FCBBoxHead', {'shared_convs': 0, 'shared_fcs': 2}),
    '4c': ('RetinaHead', {'cls_convs': 4, 'reg_convs': 4}),
}
NORMS_OF_BACKBONE = {50: 1 + 3 * 16 + 4, 101: 1 + 3 * 33 + 4}  # stem, bottlenecks, downsampling


def all_configs() -> list[str]:
    return sorted(
        str(path.relative_to(CONFIGS).with_suffix(''))
        for path in CONFIGS.glob('*/**/*.py')
        if '_base_' not in path.parts
    )


def test_table_and_folders_list_the_same_configs():
    files = [name for name in all_configs() if name.startswith(FOLDERS)]
    assert sorted(ROWS) == files


@each_row
def test_model_settings(name: str, row: Row):
    model = read_once(name).model
    assert model.type == row.detector
    backbone = model.backbone
    assert backbone.type == 'ResNet'
    assert backbone.depth == row.depth
    assert backbone.frozen_stages == row.frozen_stages
    assert backbone.norm_eval is row.norm_eval
    checkpoint = row.weights.checkpoint
    if checkpoint is None:
        assert [init['type'] for init in backbone.init_cfg] == ['Caffe2Xavier']
        assert backbone.zero_init_residual is False
    else:
        assert backbone.init_cfg == {'type': 'Pretrained', 'checkpoint': checkpoint}

    assert part(model, 'box', row).type == HEADS[row.head][0]
    assert (model.get('roi_head', {}).get('mask_head') is not None) == ('mask' in row.norms)
    for key, norm in row.norms.items():
        settings = part(model, key, row)
        norm_cfg = settings.get('norm_cfg')
        if norm is None:
            assert norm_cfg is None, key
            assert settings.get('conv_cfg') is None, key
            continue
        given = dict(norm_cfg)
        assert given.pop('requires_grad', True) is True
        assert given == {'type': norm.type, **norm.arguments}, key
        assert settings.get('conv_cfg') == (norm.conv and {'type': norm.conv}), key


@each_row
def test_built_model(name: str, row: Row):
    model = build_once(name)
    numbers = {'backbone': NORMS_OF_BACKBONE[row.depth], 'neck': 4 + 4, 'box': 4, 'mask': 4}
    if row.detector == 'RetinaNet':
        numbers |= {'neck': 3 + 3, 'box': 4 + 4}  # P6 and P7 have none
    in_parts = 0
    for key, norm in row.norms.items():
        module = part(model, key, row)
        norms = list(norms_of(module))
        in_parts += len(norms)
        centered = [m for m in module.modules() if isinstance(m, layers.CenteredConv2d)]
        assert len(norms) == (numbers[key] if norm else 0), key
        assert len(centered) == (len(norms) if norm and norm.conv else 0), key
        if norm:
            check_norms(norms, norm)
        if key != 'backbone':  # a bias before a norm would be idle
            plain = module.fpn_convs[3:] if key == 'neck' and row.detector == 'RetinaNet' else []
            for conv in (m for m in module.modules() if isinstance(m, ConvModule)):
                has_norm = norm is not None and conv not in set(plain)
                assert conv.with_norm == has_norm
                assert (conv.conv.bias is None) == has_norm
    assert in_parts == len(list(norms_of(model)))

    for layers_of_head, number in HEADS[row.head][1].items():
        assert len(getattr(part(model, 'box', row), layers_of_head)) == number


def check_norms(norms: list[nn.Module], expected: Norm) -> None:
    for norm in norms:
        assert isinstance(norm, NORM_CLASSES[expected.type])
        for argument, value in expected.arguments.items():
            assert getattr(norm, argument) == value
        if expected.type == 'MABN':
            assert norm.momentum == 0.02  # the paper's alpha = 0.98
            assert norm.warmup_iters == expected.arguments.get('warmup_iters', 100)
        if expected.type in ('BN', 'SyncBN'):
            assert norm.momentum == 0.1  # MABN paper: alpha = 0.9


@each_row
def test_frozen_parts_of_the_model(name: str, row: Row):
    model = build_once(name).train()
    stem_and_first_stage = tuple(f'backbone.{child}.' for child in ('conv1', 'bn1', 'gn1', 'layer1'))
    frozen = stem_and_first_stage if row.frozen_stages == 1 else ()
    fixed = ('backbone.',) if row.norm_eval else frozen
    for parameter_name, parameter in model.named_parameters():
        assert parameter.requires_grad is not parameter_name.startswith(frozen), parameter_name
    for module_name, module in model.named_modules():
        if isinstance(module, _BatchNorm):
            assert module.training is not f'{module_name}.'.startswith(fixed), module_name


@pytest.mark.parametrize(
    'name',
    # test_imagenet.py and test_cityscapes.py have those of the sister libraries.
    [name for name in all_configs() if name not in ROWS and not name.startswith(('imagenet', 'cityscapes'))],
)
def test_other_configs_build(name: str):
    assert list(norms_of(build(read(name))))


STEPS = {
    'BN': 'baselines/faster-rcnn_r50_fpn_4conv1fc_bn-all_4xb4-1x_coco',
    'SyncBN': 'baselines/mask-rcnn_r50_fpn_4conv1fc_syncbn-all_8xb2-2x_coco',
    'GN': 'baselines/faster-rcnn_r50_fpn_4conv1fc_gn-all_4xb4-1x_coco',
    'BRN': 'baselines/mask-rcnn_r50_fpn_4conv1fc_brn_4xb4-1x_coco',
    'CBN': 'cbn/faster-rcnn_r50_fpn_4conv1fc_cbn-all_4xb4-1x_coco',
    'NaiveCBN': 'cbn/mask-rcnn_r50_fpn_4conv1fc_naive-cbn_4xb4-1x_coco',
    'MABN': 'mabn/mask-rcnn_r50-scratch_fpn_4conv1fc_mabn-all_8xb2-2x_coco',
    'MABN in RetinaNet': 'mabn/retinanet_r50-scratch_fpn_mabn-all_8xb2-2x_coco',
}


@pytest.mark.slow
@pytest.mark.parametrize('kind', STEPS)
def test_training_step(kind: str):
    name = STEPS[kind]
    row, cfg = ROWS[name], read(name)
    if 'roi_head' in cfg.model:  # 32 instead of 512 regions, to save time
        cfg.model.train_cfg.rcnn.sampler.num = 32
    # SyncBN without a process group is BN, on the CPU as well.
    model = build(cfg, 'cpu').train()
    layers.pair_conv_norm(model)
    # The warm-up's first learning rate, since nothing pre-trained is loaded here.
    cfg.optim_wrapper.optimizer.lr /= 3
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    shapes = [(3, 64, 96), (3, 64, 64)]
    batch = demo_mm_inputs(2, shapes, num_items=[3, 4], num_classes=80, with_mask='mask' in row.norms)
    data = model.data_preprocessor(batch, training=True)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    loss, losses = model.parse_losses(model(**data, mode='loss'))
    assert all(value.isfinite() for value in losses.values()), losses
    loss.backward()
    for key, norm in row.norms.items():
        if norm and (key != 'backbone' or not row.norm_eval):
            training = [m for m in norms_of(part(model, key, row)) if m.training]
            assert training
            assert all(m.weight.grad.isfinite().all() for m in training), key
    wrapper.step()
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())
    for key, parameter in model.named_parameters():
        if not parameter.requires_grad:
            assert torch.equal(parameter, before[key]), key
    assert not torch.equal(model.backbone.layer4[0].conv1.weight, before['backbone.layer4.0.conv1.weight'])


@pytest.mark.parametrize(
    ('root', 'folder'),
    [
        (None, 'data/coco'),
        ('/datasets/coco', '/datasets/coco'),
        ('/datasets/coco/', '/datasets/coco'),
        ('my coco', 'my coco'),
    ],
)
@pytest.mark.parametrize('kind', ['faster-rcnn', 'mask-rcnn'])
def test_data_root(monkeypatch, root: str | None, folder: str, kind: str):
    if root is not None:
        monkeypatch.setenv('COCO_ROOT', root)
    # The variable is read with the file, so not from the cache.
    cfg = read_once.__wrapped__(f'cbn/{kind}_r50_fpn_4conv1fc_cbn_4xb4-1x_coco')
    annotations = Path(folder, 'annotations')
    for split in ('train', 'val', 'test'):
        dataset = cfg[f'{split}_dataloader'].dataset
        file = f'instances_{"train" if split == "train" else "val"}2017.json'
        assert Path(dataset.data_root, dataset.ann_file) == annotations / file
        assert Path(dataset.data_root).is_absolute() == folder.startswith('/')
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        assert Path(evaluator.ann_file) == annotations / 'instances_val2017.json'


def with_options(name: str, *options: str) -> Config:
    """Read a config as the tools do when they get ``--cfg-options``."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    cfg = read(name)
    cfg.merge_from_dict(parser.parse_args(['--cfg-options', *options]).cfg_options)
    return cfg


WINDOW_SIZES = (1, 2, 4, 8)  # CBN paper, Figure 3(b): its upper bound has 4 k images, 32 at most
BURN_INS = (0, 1, 2, 3, 4, 6, 8)  # the authors' configs for Figure 5, and none


@pytest.mark.parametrize('norm', ['cbn', 'naive-cbn'])
@pytest.mark.parametrize(
    ('option', 'hook'),
    [(f'window_size={size}', {'burn_in_epochs': 3, 'window_size': size}) for size in WINDOW_SIZES]
    + [(f'burn_in_epochs={epochs}', {'burn_in_epochs': epochs}) for epochs in BURN_INS],
)
def test_sweeps_by_cfg_options(norm: str, option: str, hook: dict):
    name = f'cbn/faster-rcnn_r50_fpn_4conv1fc_{norm}_4xb4-1x_coco'
    cfg = with_options(name, f'custom_hooks.0.{option}')
    assert cfg.custom_hooks == [{'type': 'CrossIterationHook', **hook}]
    built = HOOKS.build(cfg.custom_hooks[0])
    assert {key: getattr(built, key) for key in hook} == hook


def test_sweeps_of_the_readme():
    text = (CONFIGS / 'cbn/README.md').read_text()
    assert f'for k in {" ".join(map(str, WINDOW_SIZES))}; do' in text
    assert f'for epochs in {" ".join(map(str, BURN_INS))}; do' in text


def test_released_mabn_settings_by_cfg_options():
    cfg = with_options(
        'mabn/mask-rcnn_r50-scratch_fpn_4conv1fc_mabn-all_8xb2-2x_coco',
        'model.backbone.norm_cfg.buffer_size=16',
        'model.neck.norm_cfg.buffer_size=16',
        'model.roi_head.bbox_head.norm_cfg.buffer_size=16',
        'model.roi_head.mask_head.norm_cfg.buffer_size=16',
        'model.roi_head.bbox_head.norm_cfg.warmup_iters=100',
        'model.roi_head.mask_head.norm_cfg.warmup_iters=100',
    )
    for norm in norms_of(build(cfg)):
        assert (norm.buffer_size, norm.warmup_iters) == (16, 100)
