"""The Cityscapes configs against Table 8 and section B.4 of the MABN paper; each trains, with one command."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.fileio import load
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, PARAM_SCHEDULERS, TRANSFORMS, init_default_scope
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from experiments.reports.entries import read_entry
from mmdet_cbn import layers
from tests.configs.building import CONFIGS, read_once
from tests.configs.published import PAPERS
from tests.helpers.running import run
from tests.helpers.shape_streets import options, write_streets

FOLDER = CONFIGS / 'cityscapes'
WARMUP = 558  # 3 epochs
TORCHVISION = {'type': 'Pretrained', 'checkpoint': 'torchvision://resnet101'}
CENTRED = {'type': 'Pretrained', 'checkpoint': 'checkpoints/resnet101-wc_in1k.pth', 'prefix': 'backbone.'}


@dataclass(frozen=True)
class Row:
    """A line of Table 8, or CBN."""

    norm: str
    kind: type[nn.Module]
    arguments: dict[str, Any] = field(default_factory=dict)


ROWS = {
    f'pspnet_r101_{row.norm.lower()}_8xb2-40k_cityscapes-769x769': row
    for row in (
        Row('BN', nn.BatchNorm2d, {'momentum': 0.1}),
        Row('BRN', layers.BatchRenorm2d, {'momentum': 0.02}),
        Row('SyncBN', nn.SyncBatchNorm, {'momentum': 0.1}),
        Row(
            'MABN',
            layers.MovingAverageBatchNorm2d,
            {'momentum': 0.02, 'buffer_size': 16, 'warmup_iters': WARMUP},
        ),
        Row('CBN', layers.CrossIterationBatchNorm2d, {'momentum': 0.1}),
    )
}
each_row = pytest.mark.parametrize(('name', 'row'), ROWS.items(), ids=ROWS)


@pytest.fixture(autouse=True)
def _scope(_default_data, monkeypatch) -> None:
    monkeypatch.delenv('CITYSCAPES_ROOT', raising=False)
    init_default_scope('mmseg')


def config(name: str) -> Config:
    return read_once(f'cityscapes/{name}')


def norms_of(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


def test_table_and_folder_list_the_same_configs():
    assert sorted(ROWS) == sorted(path.stem for path in FOLDER.glob('*.py'))


@each_row
def test_model(name: str, row: Row):
    cfg = config(name)
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    assert type(model.backbone).__name__ == 'ResNet'
    assert (model.backbone.depth, model.backbone.deep_stem, model.backbone.norm_eval) == (101, False, False)
    assert model.backbone.frozen_stages == -1
    assert cfg.model.backbone.init_cfg == (CENTRED if row.norm == 'MABN' else TORCHVISION)
    assert cfg.model.pretrained is None
    head = model.decode_head
    assert (type(head).__name__, head.pool_scales, head.num_classes) == ('PSPHead', (1, 2, 3, 6), 19)
    assert model.auxiliary_head.loss_decode.loss_weight == 0.4
    parts = {'backbone': 1 + 3 * 33 + 4, 'decode_head': 4 + 1, 'auxiliary_head': 1}
    for part, number in parts.items():
        module = getattr(model, part)
        norms = norms_of(module)
        assert len(norms) == number
        for norm in norms:
            assert isinstance(norm, row.kind)
            assert {key: getattr(norm, key) for key in row.arguments} == row.arguments
        centred = [conv for conv in module.modules() if isinstance(conv, layers.CenteredConv2d)]
        assert len(centred) == (number if row.norm == 'MABN' else 0)
    # Dilated by 2 and 4 instead of the last two strides.
    assert [stage[0].conv2.stride for stage in (model.backbone.layer3, model.backbone.layer4)] == [(1, 1)] * 2


@each_row
def test_burn_in_and_window(name: str, row: Row):
    hook = {'type': 'CrossIterationHook', 'burn_in_epochs': 3, 'window_size': 'auto'}
    assert config(name).get('custom_hooks', []) == ([hook] if row.norm == 'CBN' else [])


@each_row
def test_schedule(name: str, row: Row):
    cfg = config(name)
    assert cfg.train_dataloader.batch_size == 2
    assert cfg.auto_scale_lr == {'enable': False, 'base_batch_size': 16}
    assert math.ceil(2975 / cfg.auto_scale_lr.base_batch_size) * 3 == WARMUP
    assert (cfg.train_cfg.type, cfg.train_cfg.max_iters) == ('IterBasedTrainLoop', 40_000)
    optimizer = build_optim_wrapper(nn.Linear(1, 1), cfg.optim_wrapper)
    (group,) = optimizer.param_groups
    assert (group['momentum'], group['weight_decay']) == (0.9, 5e-4)
    built = [PARAM_SCHEDULERS.build(s, default_args={'optimizer': optimizer}) for s in cfg.param_scheduler]
    rates = []
    for _ in range(40_000 if row.norm == 'MABN' else 2 * WARMUP):
        rates.append(group['lr'])
        for scheduler in built:
            scheduler.step()
    assert rates[0] == pytest.approx(0.01 * 1e-6)
    assert rates[WARMUP // 2] == pytest.approx(0.005, rel=1e-3)
    assert rates[WARMUP] == pytest.approx(0.01)
    length = 40_000 - WARMUP - 1  # which MMEngine reaches in the last iteration
    for iteration in range(WARMUP, len(rates), 97):
        share = (1 - (iteration - WARMUP) / length) ** 0.9
        assert rates[iteration] == pytest.approx(1e-4 + (0.01 - 1e-4) * share, rel=1e-3)


@each_row
def test_images(name: str, row: Row):
    cfg = config(name)
    steps = {step['type']: step for step in cfg.train_dataloader.dataset.pipeline}
    assert TRANSFORMS.build(steps['RandomCrop']).crop_size == (769, 769)
    assert cfg.model.data_preprocessor.size == (769, 769)
    assert (cfg.model.test_cfg.mode, cfg.model.test_cfg.crop_size) == ('slide', (769, 769))
    assert cfg.train_dataloader.dataset.data_prefix.img_path == 'leftImg8bit/train'
    assert cfg.val_dataloader.dataset.data_prefix.seg_map_path == 'gtFine/val'
    assert cfg.val_evaluator.iou_metrics == ['mIoU']


@each_row
def test_published_numbers(name: str, row: Row):
    models = {model['Name']: model for model in load(FOLDER / 'metafile.yml')['Models']}
    assert set(models) == set(ROWS)
    lines = {line['norm']: line for line in PAPERS['mabn']['table_8']}
    shown = '| - | CBN | - | - | - | - |'
    expected = {}
    if row.norm in lines:
        miou, error = lines[row.norm]['miou'], lines[row.norm]['pretrain_top1']
        source = 'https://arxiv.org/abs/2001.06838'
        expected = {'Row': 'MABN paper, Table 8', 'Source': source, 'Metrics': {'mIoU': miou}}
        shown = f'| Table 8 | {row.norm} | {error:.2f} | paper | {miou:.2f} | - |'
    assert models[name]['Metadata'].get('Paper Results', {}) == expected
    assert models[name]['Metadata']['Iterations'] == 40_000
    assert models[name]['Config'] == f'configs/cityscapes/{name}.py'
    (line,) = (line for line in (FOLDER / 'README.md').read_text().splitlines() if f'({name}.py)' in line)
    assert line.endswith(shown)


@pytest.fixture(scope='module')
def streets(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('data') / 'streets'
    write_streets(folder, train=8, val=2)
    return folder


@pytest.mark.slow
@each_row
def test_trains_with_one_command(name: str, row: Row, streets: Path, tmp_path, monkeypatch):
    """Two iterations and an evaluation, by tools/train.py: the whole depth, few channels, small images."""
    monkeypatch.setenv('CITYSCAPES_ROOT', str(streets))
    length = ['train_cfg.max_iters=2', 'train_cfg.val_interval=2', 'val_dataloader.dataset.indices=1']
    no_files = ['default_hooks.checkpoint.interval=9', 'default_hooks.checkpoint.save_last=False']
    config_file = f'configs/cityscapes/{name}.py'
    settings = [*options(), *length, *no_files]
    runner = run('train.py', config_file, '--work-dir', tmp_path, options=settings)
    values = runner.message_hub.log_scalars
    losses, _ = values['train/loss'].data
    assert len(losses) == 2
    assert all(math.isfinite(loss) for loss in losses)
    assert 0 <= values['val/mIoU'].current() <= 100
    calls = {n.iterations.item() for n in norms_of(runner.model) if isinstance(n, layers.StatefulNorm)}
    assert calls == (set() if row.norm in ('BN', 'SyncBN') else {2})
    if row.norm == 'CBN':  # 8 images, 2 in a batch
        assert {(norm.window_size, norm.burn_in) for norm in norms_of(runner.model)} == {(8, 3 * 4)}


@pytest.mark.slow
def test_learns_is_tested_and_reported(streets: Path, tmp_path, monkeypatch):
    monkeypatch.setenv('CITYSCAPES_ROOT', str(streets))
    name = 'pspnet_r101_mabn_8xb2-40k_cityscapes-769x769'
    config_file, work = f'configs/cityscapes/{name}.py', tmp_path / name
    # PolyLR would follow a warm-up of 558 iterations.
    length = ['train_cfg.max_iters=40', 'train_cfg.val_interval=40', 'param_scheduler.0.end=3']
    settings = [*options(), *length, 'model.backbone.depth=50']
    runner = run('train.py', config_file, '--work-dir', work, options=settings)
    losses, _ = runner.message_hub.log_scalars['train/loss'].data
    assert losses[-3:].mean() < 0.8 * losses[:3].mean()

    tested = tmp_path / 'tested'
    predictions = tmp_path / 'predictions.pkl'
    shown = ['--out', predictions, '--show-dir', 'shown']
    arguments = [config_file, work / 'iter_40.pth', '--work-dir', tested, *shown]
    run('test.py', *arguments, options=settings)
    (file,) = tested.glob('*/*.json')
    miou = json.loads(file.read_text())['mIoU']
    assert len(load(predictions)) == 2
    assert list((tested / 'shown').rglob('*.png'))

    entry = read_entry(work, CONFIGS)
    assert (entry.status, entry.config) == ('finished', config_file)
    assert entry.published == {'paper': {'mIoU': 78.2}}
    assert entry.ours['mIoU'] == pytest.approx(miou, abs=0.01)
    assert entry.differences['paper']['mIoU'] == pytest.approx(miou - 78.2, abs=0.01)
