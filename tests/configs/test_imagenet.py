"""The ImageNet configs against the papers' tables and recipes; and each trains, with one command.

Settings are those of the CBN paper (sections 3.1 and 4.1), of the MABN paper (sections 5.1 and B.2) and,
where that is silent, of its authors' code: megvii-model/MABN at 995e8f5, folder cls.
"""

import argparse
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmcv.cnn import build_norm_layer
from mmengine.config import Config, DictAction
from mmengine.fileio import load
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, PARAM_SCHEDULERS, TRANSFORMS, init_default_scope
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmdet_cbn import layers
from tests.configs.building import CONFIGS, read, read_once
from tests.configs.published import PAPERS
from tests.helpers.digit_folders import options, write_digits
from tests.helpers.running import run

FOLDER = CONFIGS / 'imagenet'
IMAGES_PER_GPU = (32, 16, 8, 4, 2, 1)
WINDOWS = {32: 1, 16: 1, 8: 2, 4: 4, 2: 8, 1: 8}  # CBN paper, section 4.3: min(ceil(16 / N), 8)
SOURCES = {18: 'https://arxiv.org/abs/2002.05712', 50: 'https://arxiv.org/abs/2001.06838'}


@dataclass(frozen=True)
class Row:
    """A line (ResNet-50), or a cell (ResNet-18), of the papers' tables."""

    depth: int
    images: int  # on a GPU
    norm: str  # as the table names it
    kind: type[nn.Module]
    arguments: dict[str, Any] = field(default_factory=dict)
    centred: bool = False
    line: int | None = None  # of MABN's Table 1

    @property
    def table(self) -> str:
        """Where the paper has its number, or its curve."""
        if self.depth == 50:
            return 'MABN paper, Table 1'
        if self.norm == 'Naive CBN':
            return 'CBN paper, Figures 3(a) and 4'
        return f'CBN paper, Table {2 if self.norm in ("IN", "LN") else 3}'

    @property
    def top1(self) -> float | None:
        """What the paper prints, as an accuracy."""
        if self.depth == 50:
            return round(100 - PAPERS['mabn']['table_1'][self.line]['val_error'], 2)
        lines = {line['norm']: line for line in PAPERS['cbn'][f'table_{self.table[-1]}']} if self.norm else {}
        return lines[self.norm]['top1' if self.table[-1] == '2' else f'bs_{self.images}']


def _rows() -> dict[str, Row]:
    rows = {
        f'resnet18_{name}_4xb{images}_in1k': Row(18, images, norm, kind, arguments)
        for name, norm, kind, arguments in (
            ('gn', 'GN', nn.GroupNorm, {'num_groups': 32}),
            ('bn', 'BN', nn.BatchNorm2d, {'momentum': 0.1}),
            ('brn', 'BRN', layers.BatchRenorm2d, {'momentum': 0.1}),
            ('cbn', 'CBN', layers.CrossIterationBatchNorm2d, {'momentum': 0.1, 'sync': False}),
        )
        for images in IMAGES_PER_GPU
    }
    rows['resnet18_in_4xb32_in1k'] = Row(18, 32, 'IN', nn.InstanceNorm2d, {'affine': True})
    rows['resnet18_ln_4xb32_in1k'] = Row(18, 32, 'LN', nn.GroupNorm, {'num_groups': 1})
    rows['resnet18_naive-cbn_4xb4_in1k'] = Row(
        18, 4, 'Naive CBN', layers.NaiveCrossIterationBatchNorm2d, {'momentum': 0.1}
    )
    pairs = {'norm_batch_size': 2}
    mabn = {**pairs, 'momentum': 0.02, 'buffer_size': 16, 'r_max': 5.0}
    for line, (name, norm, kind, arguments) in enumerate(
        (
            ('bn', 'BN', nn.BatchNorm2d, {'momentum': 0.1}),
            ('bn-nb2', 'BN', layers.GhostBatchNorm2d, {**pairs, 'momentum': 0.1}),
            ('brn-nb2', 'BRN', layers.GhostBatchRenorm2d, {**pairs, 'momentum': 0.1}),
            ('mabn-nb2', 'MABN', layers.GhostMovingAverageBatchNorm2d, mabn),
        )
    ):
        row = Row(50, 32, norm, kind, arguments, centred=norm == 'MABN', line=line)
        rows[f'resnet50_{name}_8xb32-600k_in1k'] = row
    return rows


ROWS = _rows()
each_row = pytest.mark.parametrize(('name', 'row'), ROWS.items(), ids=ROWS)


@pytest.fixture(autouse=True)
def _scope(_default_data, monkeypatch) -> None:
    monkeypatch.delenv('IMAGENET_ROOT', raising=False)
    init_default_scope('mmpretrain')


def config(name: str) -> Config:
    return read_once(f'imagenet/{name}')


def norms_of(model: nn.Module) -> list[nn.Module]:
    kinds = _BatchNorm | nn.GroupNorm | nn.InstanceNorm2d
    return [module for module in model.modules() if isinstance(module, kinds)]


def test_table_and_folder_list_the_same_configs():
    assert sorted(ROWS) == sorted(path.stem for path in FOLDER.glob('*.py'))


@each_row
def test_model(name: str, row: Row):
    cfg = config(name)
    model = MODELS.build(cfg.model)
    backbone = model.backbone
    assert (type(backbone).__name__, backbone.depth, backbone.style) == ('ResNet', row.depth, 'pytorch')
    assert backbone.zero_init_residual is False  # gamma begins at 1: CBN paper 3.1, MABN paper B.2
    assert backbone.frozen_stages == -1
    assert not backbone.norm_eval
    assert (model.head.fc.in_features, model.head.fc.out_features) == ({18: 512, 50: 2048}[row.depth], 1000)
    norms = norms_of(model)
    assert len(norms) == {18: 1 + 16 + 3, 50: 1 + 48 + 4}[row.depth]
    for norm in norms:
        assert type(norm) is row.kind
        assert norm.eps == 1e-5
        assert norm.weight.requires_grad
        assert {key: getattr(norm, key) for key in row.arguments} == row.arguments
    convs = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert len(convs) == len(norms)
    assert all(isinstance(conv, layers.CenteredConv2d) is row.centred for conv in convs)

    logits, labels = torch.randn(4, 1000), torch.tensor([3, 1, 4, 1])
    smoothing = 0.1 if row.depth == 50 else 0.0
    expected = nn.functional.cross_entropy(logits, labels, label_smoothing=smoothing)
    torch.testing.assert_close(model.head.loss_module(logits, labels), expected)


@pytest.mark.parametrize('name', ['resnet18_bn_4xb32_in1k', 'resnet50_bn_8xb32-600k_in1k'])
def test_initial_weights_which_the_rows_share(name: str):
    model = MODELS.build(config(name).model).requires_grad_(False)
    model.init_weights()
    for conv in (module for module in model.modules() if isinstance(module, nn.Conv2d)):
        fan_out = conv.out_channels * conv.weight[0, 0].numel()
        assert conv.weight.std() == pytest.approx(math.sqrt(2 / fan_out), rel=0.05)
    assert all(norm.weight.eq(1).all() and norm.bias.eq(0).all() for norm in norms_of(model))
    weight = model.head.fc.weight
    if ROWS[name].depth == 50:  # PyTorch's, uniform
        assert weight.abs().max() <= 1 / math.sqrt(2048)
    else:
        assert weight.std() == pytest.approx(0.01, rel=0.05)


@each_row
def test_burn_in_and_window(name: str, row: Row):
    hook = {'type': 'CrossIterationHook', 'burn_in_epochs': 25, 'window_size': 'auto'}
    assert config(name).get('custom_hooks', []) == ([hook] if 'CBN' in row.norm else [])


@each_row
def test_optimizer_and_batch(name: str, row: Row):
    cfg = config(name)
    gpus = {18: 4, 50: 8}[row.depth]
    assert cfg.train_dataloader.batch_size == row.images
    assert cfg.auto_scale_lr == {'base_batch_size': gpus * row.images}
    assert cfg.custom_imports.imports == ['mmdet_cbn']
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    assert type(optimizer) is torch.optim.SGD
    (group,) = optimizer.param_groups  # gamma and beta among them
    rate = 0.1 * row.images / 32 if row.depth == 18 else 0.1
    assert group['lr'] == pytest.approx(rate)
    assert (group['momentum'], group['weight_decay'], group['nesterov']) == (0.9, 1e-4, False)
    assert 'clip_grad' not in cfg.optim_wrapper


def learning_rates(cfg: Config, steps: int) -> Iterator[float]:
    """Run the real scheduler, epoch by epoch or iteration by iteration."""
    optimizer = build_optim_wrapper(nn.Linear(1, 1), cfg.optim_wrapper)
    scheduler = PARAM_SCHEDULERS.build(cfg.param_scheduler, default_args={'optimizer': optimizer})
    for _ in range(steps):
        yield optimizer.param_groups[0]['lr']
        scheduler.step()


@each_row
def test_schedule(name: str, row: Row):
    cfg = config(name)
    if row.depth == 18:
        assert (cfg.train_cfg.by_epoch, cfg.train_cfg.max_epochs) == (True, 100)
        assert cfg.param_scheduler.by_epoch
        start = 0.1 * row.images / 32
        expected = [start * (1 + math.cos(math.pi * epoch / 100)) / 2 for epoch in range(100)]
        assert list(learning_rates(cfg, 100)) == pytest.approx(expected)
        return
    assert (cfg.train_cfg.type, cfg.train_cfg.max_iters) == ('IterBasedTrainLoop', 600_000)
    assert cfg.log_processor == {'by_epoch': False}
    settings = {'type': 'MultiStepLR', 'by_epoch': False, 'milestones': [150_000, 300_000, 450_000]}
    assert cfg.param_scheduler == {**settings, 'gamma': 0.1, '_scope_': 'mmpretrain'}


@pytest.mark.slow
def test_learning_rate_of_600_000_iterations():
    rates = list(learning_rates(config('resnet50_bn_8xb32-600k_in1k'), 600_000))
    for first in range(0, 600_000, 150_000):
        expected = 0.1 * 0.1 ** (first // 150_000)
        assert min(rates[first : first + 150_000]) == pytest.approx(expected)
        assert max(rates[first : first + 150_000]) == pytest.approx(expected)


@each_row
def test_images(name: str, row: Row):
    cfg = config(name)
    training = {step['type']: step for step in cfg.train_dataloader.dataset.pipeline}
    testing = {step['type']: step for step in cfg.val_dataloader.dataset.pipeline}
    assert list(testing) == ['LoadImageFromFile', 'ResizeEdge', 'CenterCrop', 'PackInputs']
    assert (testing['ResizeEdge'].scale, testing['ResizeEdge'].edge) == (256, 'short')
    assert testing['CenterCrop'].crop_size == 224
    crop = TRANSFORMS.build(training['RandomResizedCrop'])
    assert crop.scale == (224, 224)
    assert crop.crop_ratio_range == (0.08, 1.0)
    assert training['RandomFlip'].prob == 0.5
    assert cfg.val_evaluator == {'type': 'Accuracy', 'topk': (1, 5), '_scope_': 'mmpretrain'}

    processor = MODELS.build({'type': 'ClsDataPreprocessor', **cfg.data_preprocessor})
    image = torch.tensor([10, 20, 30], dtype=torch.uint8).view(1, 3, 1, 1)  # BGR
    found = processor({'inputs': image})['inputs'].flatten()
    if row.depth == 50:  # ToBGRTensor of the authors' code
        assert 'Lighting' in training
        assert crop.aspect_ratio_range == (1.0, 1.0)
        assert found.tolist() == [10, 20, 30]
    else:
        assert list(training) == ['LoadImageFromFile', 'RandomResizedCrop', 'RandomFlip', 'PackInputs']
        assert crop.aspect_ratio_range == (3 / 4, 4 / 3)
        rgb, mean, std = [30, 20, 10], [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
        expected = [(value - m) / s for value, m, s in zip(rgb, mean, std, strict=True)]
        assert found.tolist() == pytest.approx(expected)


def test_lighting_has_the_spread_of_the_authors(tmp_path):
    """Their noise is that of AlexNet: eigenvalues times a normal of 0.1, in BGR here."""
    write_digits(tmp_path, train=1, val=1)
    pipeline = config('resnet50_bn_8xb32-600k_in1k').train_dataloader.dataset.pipeline
    load_image, lighting = (TRANSFORMS.build(pipeline[index]) for index in (0, 2))
    results = load_image({'img_path': str(tmp_path / 'train/digit0/0.png')})
    results['img'] = np.full_like(results['img'], 255)
    np.random.seed(0)
    drawn = np.stack([lighting(dict(results))['img'][0, 0] for _ in range(4000)]) - 255
    values = np.array([0.2175, 0.0188, 0.0045]) * 255
    rgb = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
    expected = 0.1 * np.sqrt((rgb**2 * values**2).sum(1))[::-1]
    np.testing.assert_allclose(drawn.std(0), expected, rtol=0.05)
    assert np.abs(drawn).max() < 40  # nothing begins anew beyond 255


def with_options(name: str, text: str) -> Config:
    """Read a config as the tools do when they get ``--cfg-options``."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='*', action=DictAction)
    cfg = read(f'imagenet/{name}')
    cfg.merge_from_dict(parser.parse_args(['--cfg-options', *text.split()]).cfg_options or {})
    return cfg


def ablations() -> dict[str, tuple[str, str, str]]:
    """Return top-1, config and options of each row of the README's table."""
    found = {}
    for line in (FOLDER / 'README.md').read_text().splitlines():
        row = re.match(r'\| Table ([24]), (\d+) \| (\S+) \| (\S+) \|\s?`?(.*?)`? \|$', line)
        if row:
            found[f'{row[1]}.{row[2]}'] = row.groups()[2:]
    return found


# Forward and backward statistics, centred weights, images that are normalized together, alpha: sections 5.1
# and 4.2, and the captions. BN is vanilla normalization by batch statistics.
ABLATIONS = {
    '2.1': ('BN', 'BN', False, 32, 0.9),
    '2.2': ('batch', 'batch', True, 32, 0.9),
    '2.3': ('BN', 'BN', False, 2, 0.9),
    '2.4': ('BRN', 'BRN', False, 2, 0.9),
    '2.6': ('batch', 'batch', True, 2, 0.9),
    '2.7': ('ema', 'batch', True, 2, 0.9),
    '2.8': ('ema', 'sma', True, 2, 0.98),
    '4.1': ('ema', 'sma', True, 2, 0.98),
    '4.2': ('sma', 'sma', True, 2, 0.98),
    '4.3': ('ema', 'ema', True, 2, 0.9),
    '4.4': ('ema', 'batch', True, 2, 0.9),
    '4.5': ('batch', 'batch', True, 2, 0.9),
    '4.6': ('ema', 'sma', False, 2, 0.98),
    '4.7': ('ema', 'batch', False, 2, 0.9),
    '4.8': ('batch', 'batch', False, 2, 0.9),
    '4.9': ('BN', 'BN', False, 2, 0.9),
    '4.10': ('BN', 'BN', True, 2, 0.9),
    '4.11': ('BN', 'BN', True, 32, 0.9),
}


def test_ablations_of_the_readme_are_those_of_the_tables():
    printed = {
        f'{table}.{line["experiment"]}': line['top1_error']
        for table in (2, 4)
        for line in PAPERS['mabn'][f'table_{table}']
    }
    top1 = {key: '-' if error is None else f'{100 - error:.2f}' for key, error in printed.items()}
    assert {key: row[0] for key, row in ablations().items()} == top1
    assert set(printed) - set(ABLATIONS) == {'2.5'}  # which did not converge, and which no layer here is


@pytest.mark.parametrize('experiment', ABLATIONS)
def test_ablations_by_cfg_options(experiment: str):
    forward, backward, centred, images, alpha = ABLATIONS[experiment]
    _, config_name, text = ablations()[experiment]
    cfg = with_options(f'{config_name}_8xb32-600k_in1k', text)
    conv = cfg.model.backbone.get('conv_cfg') or {'type': 'Conv2d'}
    assert (conv['type'] == 'CenConv2d') is centred
    layer = build_norm_layer(dict(cfg.model.backbone.get('norm_cfg') or {'type': 'BN'}), 8)[1]
    assert layer.momentum == pytest.approx(1 - alpha)
    assert getattr(layer, 'norm_batch_size', 32) == images
    if forward in ('BN', 'BRN'):
        kind = {'BN': nn.BatchNorm2d, 'BRN': layers.BatchRenorm2d}[forward]
        assert isinstance(layer, kind)
    else:
        assert isinstance(layer, layers.MovingAverageBatchNorm2d)
        assert (layer.forward_statistics, layer.backward_statistics) == (forward, backward)
        assert layer.buffer_size == 16


def test_sweeps_of_the_readme():
    text = (FOLDER / 'README.md').read_text()
    assert 'for k in 1 2 4 8; do' in text  # upper bound: BN with 4 k images, of which the rows have 4 to 32
    for norm in ('cbn', 'naive-cbn'):
        cfg = with_options(f'resnet18_{norm}_4xb4_in1k', 'custom_hooks.0.window_size=2')
        assert cfg.custom_hooks[0].window_size == 2


@each_row
def test_metafile_has_the_published_numbers(name: str, row: Row):
    models = {model['Name']: model for model in load(FOLDER / 'metafile.yml')['Models']}
    assert set(models) == set(ROWS)
    model = models[name]
    assert model['Config'] == f'configs/imagenet/{name}.py'
    paper = {'Row': row.table}
    top1 = None if row.norm == 'Naive CBN' else row.top1
    if top1 is not None:
        paper |= {'Source': SOURCES[row.depth], 'Metrics': {'top-1': top1}}
    expected = {'Paper Results': paper}
    if row.depth == 50:
        printed = PAPERS['mabn_repository']['imagenet'][row.line]['top1']
        if printed != row.top1:
            source = 'https://github.com/megvii-model/MABN'
            expected['Repository Results'] = {'Source': source, 'Metrics': {'top-1': printed}}
    assert {key: value for key, value in model['Metadata'].items() if key.endswith('Results')} == expected
    length = {'Epochs': 100} if row.depth == 18 else {'Iterations': 600_000}
    assert length.items() <= model['Metadata'].items()
    assert model['Metadata']['Training Resources'] == f'{4 if row.depth == 18 else 8}x GPUs'


@each_row
def test_readme_shows_the_published_numbers(name: str, row: Row):
    text = (FOLDER / 'README.md').read_text()
    top1 = None if row.norm == 'Naive CBN' else row.top1
    if row.depth == 18:
        shown = '-' if top1 is None else f'{top1:.1f}'
        assert text.count(f'[{shown}]({name}.py)') == 1
        return
    (line,) = (line for line in text.splitlines() if f'({name}.py)' in line)
    size = row.arguments.get('norm_batch_size', 32)
    assert line.endswith(f'| Table 1 | {row.norm} | {size} | paper | {top1:.2f} | - |')
    if row.norm == 'MABN':
        assert f'| repository | {PAPERS["mabn_repository"]["imagenet"][3]["top1"]:.2f} |' in text


def test_last_cell_of_each_table_as_printed():
    assert ROWS['resnet18_cbn_4xb1_in1k'].top1 == 69.3
    assert ROWS['resnet18_in_4xb32_in1k'].top1 == 64.4
    assert ROWS['resnet50_mabn-nb2_8xb32-600k_in1k'].top1 == 76.42


@pytest.fixture(scope='module')
def digits(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('data') / 'digits'
    write_digits(folder, train=10, val=2)
    return folder


@pytest.mark.slow
@each_row
def test_trains_with_one_command(name: str, row: Row, digits: Path, tmp_path, monkeypatch):
    """Two iterations and an evaluation, by tools/train.py: the whole config, on few small images."""
    monkeypatch.setenv('IMAGENET_ROOT', str(digits))
    length = ['train_cfg.max_epochs=1', f'train_dataloader.dataset.indices={2 * row.images}']
    if row.depth == 50:
        length = ['train_cfg.max_iters=2', 'train_cfg.val_interval=2', 'train_dataloader.batch_size=6']
    no_files = ['default_hooks.checkpoint.interval=9', 'default_hooks.checkpoint.save_last=False']
    settings = [*options(row.depth), *length, *no_files]
    runner = run('train.py', f'configs/imagenet/{name}.py', '--work-dir', tmp_path, options=settings)
    values = runner.message_hub.log_scalars
    losses, _ = values['train/loss'].data
    assert len(losses) == 2
    assert all(math.isfinite(loss) for loss in losses)
    assert 0 <= values['val/accuracy/top1'].current() <= values['val/accuracy/top5'].current() <= 100
    norms = norms_of(runner.model)
    calls = {norm.iterations.item() for norm in norms if isinstance(norm, layers.StatefulNorm)}
    if row.arguments.get('norm_batch_size') == 2:
        assert calls <= {2 * 3}  # groups
    elif calls:
        assert calls == {2}
    if 'CBN' in row.norm:
        windows = {(norm.window_size, norm.burn_in) for norm in norms}
        assert windows == {(WINDOWS[row.images], 25 * 2)}
