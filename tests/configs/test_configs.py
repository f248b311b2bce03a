"""Every COCO config against the table, the models that they build, and a step of training with each norm."""

import argparse
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path

import pytest
import torch
from mmcv.cnn import ConvModule
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config, DictAction
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS, init_default_scope
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmdet_cbn import layers
from tests.configs.expected import ROWS, Norm, Row

CONFIGS = Path(__file__).parents[2] / 'configs'
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
PARTS = {  # where a part stands in a two-stage detector, and where in RetinaNet
    'backbone': ('backbone', 'backbone'),
    'neck': ('neck', 'neck'),
    'box': ('roi_head.bbox_head', 'bbox_head'),
    'mask': ('roi_head.mask_head', None),
}


@pytest.fixture(autouse=True)
def _default_data(monkeypatch) -> None:
    monkeypatch.delenv('COCO_ROOT', raising=False)
    init_default_scope('mmdet')


@cache
def read_once(name: str) -> Config:
    return Config.fromfile(str(CONFIGS / f'{name}.py'))


def read(name: str) -> Config:
    return deepcopy(read_once(name))


@cache
def build_once(name: str) -> nn.Module:
    return build(read(name))


def build(cfg: Config, device: str = 'meta') -> nn.Module:
    with torch.device(device):  # meta: neither memory nor initial values, which would take minutes
        return MODELS.build(cfg.model)


def part(model: Config | nn.Module, name: str, row: Row) -> Config | nn.Module:
    node = model
    for key in PARTS[name][row.detector == 'RetinaNet'].split('.'):
        node = getattr(node, key)
    return node


def norms_of(module: nn.Module) -> Iterator[nn.Module]:
    return (m for m in module.modules() if isinstance(m, _BatchNorm | nn.GroupNorm))


def all_configs() -> list[str]:
    return sorted(
        str(path.relative_to(CONFIGS).with_suffix(''))
        for path in CONFIGS.glob('*/**/*.py')
        if '_base_' not in path.parts
    )


each_row = pytest.mark.parametrize(('name', 'row'), ROWS.items(), ids=ROWS)


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
    assert backbone.get('style') == 'pytorch'
    if row.weights is None:
        assert backbone.init_cfg is None
        assert backbone.zero_init_residual is False
    else:
        assert backbone.init_cfg == {'type': 'Pretrained', 'checkpoint': row.weights.checkpoint}
        images = model.data_preprocessor
        assert tuple(images.mean) == row.weights.mean
        assert tuple(images.std) == row.weights.std
        assert images.bgr_to_rgb is row.weights.bgr_to_rgb

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
def test_training_settings(name: str, row: Row):
    cfg, recipe = read_once(name), row.recipe
    assert f'_{recipe.gpus}xb{recipe.images_per_gpu}-' in name
    assert cfg.train_dataloader.batch_size == recipe.images_per_gpu
    assert cfg.auto_scale_lr == {'enable': False, 'base_batch_size': recipe.gpus * recipe.images_per_gpu}
    assert cfg.train_cfg.max_epochs == recipe.epochs
    warmup, steps = cfg.param_scheduler
    assert (warmup.type, warmup.by_epoch, warmup.begin, warmup.end) == ('LinearLR', False, 0, 500)
    assert warmup.start_factor == pytest.approx(recipe.warmup_from)
    assert (steps.type, steps.by_epoch, steps.end) == ('MultiStepLR', True, recipe.epochs)
    assert (tuple(steps.milestones), steps.gamma) == (recipe.milestones, 0.1)
    sgd = {'type': 'SGD', 'lr': recipe.learning_rate, 'momentum': 0.9, 'weight_decay': 1e-4}
    assert cfg.optim_wrapper.optimizer == sgd
    clip = recipe.clip and {'max_norm': recipe.clip, 'norm_type': 2}
    assert cfg.optim_wrapper.get('clip_grad') == clip

    crosses = any(norm and norm.type in ('CBN', 'NaiveCBN') for norm in row.norms.values())
    hook = {'type': 'CrossIterationHook', 'burn_in_epochs': 3}
    assert cfg.get('custom_hooks', []) == ([hook] if crosses else [])
    assert cfg.custom_imports.imports == ['mmdet_cbn']

    resize = next(step for step in cfg.train_pipeline if step['type'] == 'Resize')
    assert (tuple(resize['scale']), resize['keep_ratio']) == ((1333, 800), True)
    assert cfg.train_dataloader.dataset.data_prefix.img == 'train2017/'
    assert cfg.val_dataloader.dataset.data_prefix.img == 'val2017/'
    metric = cfg.val_evaluator.metric
    assert metric == (['bbox', 'segm'] if 'mask' in row.norms else 'bbox')


@each_row
def test_built_model(name: str, row: Row):
    model = build_once(name)
    numbers = {'backbone': NORMS_OF_BACKBONE[row.depth], 'neck': 4 + 4, 'box': 4, 'mask': 4}
    if row.detector == 'RetinaNet':
        numbers |= {'neck': 3 + 5, 'box': 4 + 4}
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
            for conv in (m for m in module.modules() if isinstance(m, ConvModule)):
                assert conv.with_norm == (norm is not None)
                assert (conv.conv.bias is None) == (norm is not None)
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


@pytest.mark.parametrize('name', sorted(set(all_configs()) - set(ROWS)))
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
    cfg.optim_wrapper.optimizer.lr *= row.recipe.warmup_from
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


@pytest.mark.parametrize('norm', ['cbn', 'naive-cbn'])
@pytest.mark.parametrize(
    ('option', 'hook'),
    [(f'window_size={size}', {'burn_in_epochs': 3, 'window_size': size}) for size in (1, 2, 4, 8)]
    + [(f'burn_in_epochs={epochs}', {'burn_in_epochs': epochs}) for epochs in (0, 1, 3, 5, 8)],
)
def test_sweeps_by_cfg_options(norm: str, option: str, hook: dict):
    name = f'cbn/faster-rcnn_r50_fpn_4conv1fc_{norm}_4xb4-1x_coco'
    cfg = with_options(name, f'custom_hooks.0.{option}')
    assert cfg.custom_hooks == [{'type': 'CrossIterationHook', **hook}]
    built = HOOKS.build(cfg.custom_hooks[0])
    assert {key: getattr(built, key) for key in hook} == hook


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
