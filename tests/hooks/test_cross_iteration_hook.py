"""The hook in MMEngine's own training loop, on a small FCOS and images on disk."""

import json
import math
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.testing import demo_mm_inputs
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import BatchSampler, DataLoader

from mmdet_cbn.hooks import CrossIterationHook
from mmdet_cbn.hooks.cross_iteration_hook import _epoch_length, _has_stepped
from mmdet_cbn.layers import CrossIterationBatchNorm2d, NaiveCrossIterationBatchNorm2d
from tests.helpers import training
from tests.helpers.detectors import fcos
from tests.helpers.noise_images import write_images

EPOCH = 3  # iterations: 6 images in batches of 2
LEVELS = 5  # the head runs once for each
CBN = {'type': 'CBN', 'window_size': 4}
MMDET_SAMPLER = {'type': 'AspectRatioBatchSampler'}
EMA = {'type': 'EMAHook', 'momentum': 0.1}
IN_BACKBONE, IN_NECK, IN_HEAD = 'backbone.bn1', 'neck.lateral_convs.0.bn', 'bbox_head.cls_convs.0.bn'


@pytest.fixture(scope='module')
def coco(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('coco')
    write_images(root, 6)
    return root


def detector(norm_cfg: dict = CBN, neck_norm_cfg: dict | None = None) -> dict:
    """An FCOS whose head norms run once a level; naive layers in the neck, which need no pairing."""
    return fcos(norm_cfg, neck_norm_cfg or {'type': 'NaiveCBN', 'window_size': 4})


def make_runner(
    coco: Path,
    work_dir: Path,
    *hooks: Hook | dict,
    model: dict | None = None,
    epochs: int = 1,
    batch_size: int = 2,
    batch_sampler: dict | None = None,
    evaluate: bool = False,
    **settings: object,
) -> Runner:
    if evaluate:
        settings |= {
            'val_dataloader': training.loader(coco),
            'val_cfg': {},
            'val_evaluator': {'type': 'CocoMetric', 'ann_file': str(coco / 'annotations.json')},
        }
    batches = training.loader(coco, batch_size, batch_sampler=batch_sampler)
    each = {name: {'type': f'{name.title()}Hook', 'interval': 1} for name in ('logger', 'checkpoint')}
    model = model or detector()
    return training.make_runner(
        work_dir, model, batches, *hooks, epochs=epochs, default_hooks=each, **settings
    )


class Recorder(Hook):
    """Looks at the layers after each iteration."""

    priority = 'VERY_LOW'

    def __init__(self) -> None:
        self.pooling_since: dict[str, int] = {}
        self.expected: list[dict[str, float]] = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        norms = cross_iteration_layers(runner.model)
        for name, norm in norms.items():
            if norm.window is not None:
                self.pooling_since.setdefault(name, runner.iter)
        reports = [
            window_report(norm, runner.model.get_submodule(feeding_convolution(name)))
            for name, norm in norms.items()
            if norm.window is not None and isinstance(norm, CrossIterationBatchNorm2d)
        ]
        keys = reports[0] if reports else ()
        self.expected.append({key: float(np.mean([report[key] for report in reports])) for key in keys})


def cross_iteration_layers(model: nn.Module) -> dict[str, nn.Module]:
    kinds = (CrossIterationBatchNorm2d, NaiveCrossIterationBatchNorm2d)
    return {name: module for name, module in model.named_modules() if isinstance(module, kinds)}


def feeding_convolution(norm: str) -> str:
    """Translate by mmdet's names: bn2 follows conv2, bn follows conv, downsample.1 follows 0."""
    parent, _, name = norm.rpartition('.')
    return f'{parent}.{name.replace("bn", "conv") if "bn" in name else 0}'


def window_report(norm: CrossIterationBatchNorm2d, conv: nn.Conv2d) -> dict[str, float]:
    """Work out the three log values in float64, entry by entry, from what the window holds."""
    window = norm.window
    fill = int(window.fill)
    newest_first = [(int(window.position) - age) % window.rows for age in range(1, fill + 1)]
    theta = conv.weight.detach().double().flatten(1).numpy()
    of_group = len(theta) // len(window.mean_derivative)
    steps, clamped = [], []
    for row in newest_first:
        for channel, weights in enumerate(theta):
            p = window.mean_derivative[channel // of_group, row].double().numpy()
            q = window.variance_derivative[channel, row].double().numpy()
            bias = 0.0 if conv.bias is None else float(conv.bias[channel])
            mean, _, *rest = (float(column[channel, row]) for column in window.values)
            mean_step = p @ weights + bias + rest[0] - mean
            var = q @ weights + rest[1] - mean_step**2
            clamped.append(var < 0)
            if var > 0:
                steps.append(mean_step**2 / var)
    return {
        'cbn_fill': fill,
        'cbn_clamped': float(np.mean(clamped)),
        'cbn_compensation': math.sqrt(np.mean(steps)),
    }


def logged(runner: Runner) -> list[dict]:
    (path,) = Path(runner.log_dir).glob('vis_data/scalars.json')
    return [json.loads(line) for line in path.read_text().splitlines()]


class Trained:
    """A finished run and what was seen of it."""

    def __init__(self, coco: Path, work_dir: Path, *hooks: Hook | dict, **kwargs: object) -> None:
        self.recorder = Recorder()
        self.runner = make_runner(coco, work_dir, *hooks, self.recorder, **kwargs)
        self.runner.train()
        self.norms = cross_iteration_layers(self.runner.model)


@pytest.fixture(scope='module')
def straight(coco, tmp_path_factory) -> Trained:
    """Three epochs, burn-in during the first; read by several tests."""
    hook = {'type': 'CrossIterationHook', 'burn_in_epochs': 1}
    return Trained(coco, tmp_path_factory.mktemp('straight'), hook, epochs=3)


def test_pairs_before_training(straight):
    cbn = {n for n, m in straight.norms.items() if isinstance(m, CrossIterationBatchNorm2d)}
    assert {IN_BACKBONE, IN_HEAD} < cbn
    (hook,) = (h for h in straight.runner.hooks if isinstance(h, CrossIterationHook))
    assert hook.pairs == {name: feeding_convolution(name) for name in cbn}


def test_burn_in_ends_after_its_epochs_in_every_layer(straight):
    assert straight.norms[IN_HEAD].iteration == 3 * EPOCH * LEVELS
    assert straight.norms[IN_BACKBONE].iteration == 3 * EPOCH
    assert set(straight.recorder.pooling_since) == set(straight.norms)
    assert Counter(straight.recorder.pooling_since.values()) == {EPOCH: len(straight.norms)}


def test_burn_in_counts_the_calls_of_a_shared_head(straight):
    assert straight.norms[IN_BACKBONE].burn_in == EPOCH
    assert straight.norms[IN_NECK].burn_in == EPOCH
    assert straight.norms[IN_HEAD].burn_in == EPOCH * LEVELS


def test_log_has_the_state_of_the_windows(straight):
    lines = [line for line in logged(straight.runner) if 'loss' in line]
    assert len(lines) == len(straight.recorder.expected) == 3 * EPOCH
    for line, expected in zip(lines, straight.recorder.expected, strict=True):
        values = {key: value for key, value in line.items() if key.startswith('cbn_')}
        assert values == pytest.approx(expected, rel=1e-3, abs=1e-6)
    fills = [expected['cbn_fill'] for expected in straight.recorder.expected[EPOCH:]]
    assert fills[-1] == 3
    assert fills[0] < 3
    assert all(expected['cbn_compensation'] > 1e-3 for expected in straight.recorder.expected[EPOCH:])
    assert any(expected['cbn_clamped'] > 0 for expected in straight.recorder.expected[EPOCH:])


def test_fraction_of_an_epoch(coco, tmp_path):
    """Burn-in of fewer iterations than the head has calls in one."""
    run = Trained(coco, tmp_path, CrossIterationHook(burn_in_epochs=2 / 3))
    assert Counter(run.recorder.pooling_since.values()) == {2: len(run.norms)}


@pytest.mark.slow
@pytest.mark.parametrize('others', [[], [EMA]], ids=['alone', 'beside EMAHook'])
def test_resume_continues_burn_in_where_it_was(coco, tmp_path, others):
    hooks = [{'type': 'CrossIterationHook', 'burn_in_epochs': 2}, *others]
    first = Trained(coco, tmp_path, *hooks)
    assert first.recorder.pooling_since == {}

    resumed = Trained(coco, tmp_path, *hooks, epochs=3, resume=True)
    assert len(resumed.recorder.expected) == 2 * EPOCH
    assert Counter(resumed.recorder.pooling_since.values()) == {2 * EPOCH: len(resumed.norms)}
    assert resumed.norms[IN_HEAD].burn_in == 2 * EPOCH * LEVELS
    assert resumed.norms[IN_HEAD].iteration == 3 * EPOCH * LEVELS


def test_resume_with_saved_windows_of_the_automatic_size(coco, tmp_path):
    hook = {'type': 'CrossIterationHook', 'window_size': 'auto', 'save_window': True}
    Trained(coco, tmp_path, hook)
    resumed = Trained(coco, tmp_path, hook, epochs=2, resume=True)
    norm = resumed.norms[IN_BACKBONE]
    assert norm.window_size == 8
    assert int(norm.window.fill) == 2 * EPOCH


@pytest.mark.slow
def test_resume_after_burn_in_pools_at_once(coco, straight, tmp_path):
    hook = {'type': 'CrossIterationHook', 'burn_in_epochs': 1}
    checkpoint = Path(straight.runner.work_dir) / 'epoch_2.pth'
    resumed = Trained(coco, tmp_path, hook, epochs=3, load_from=str(checkpoint), resume=True)
    assert Counter(resumed.recorder.pooling_since.values()) == {2 * EPOCH: len(resumed.norms)}
    assert resumed.norms[IN_HEAD].burn_in == EPOCH * LEVELS


@pytest.mark.slow
def test_fine_tuning_a_cbn_model_starts_burn_in_anew(coco, straight, tmp_path):
    """load_from without resume: the weights move fast again, whatever the checkpoint counted."""
    hook = {'type': 'CrossIterationHook', 'burn_in_epochs': 1}
    checkpoint = Path(straight.runner.work_dir) / 'epoch_3.pth'
    tuned = Trained(coco, tmp_path, hook, epochs=2, load_from=str(checkpoint))
    assert Counter(tuned.recorder.pooling_since.values()) == {EPOCH: len(tuned.norms)}


@pytest.mark.parametrize(
    ('batch_size', 'batch_sampler', 'expected'),
    [
        (1, None, 8),
        (3, None, 6),
        (15, None, 2),
        (16, None, 1),
        (32, None, 1),
        (2, MMDET_SAMPLER, 8),
        (4, MMDET_SAMPLER, 4),
        (5, MMDET_SAMPLER, 4),
    ],
)
def test_automatic_window_size(coco, tmp_path, batch_size, batch_sampler, expected):
    """The paper's min(ceil(16 / batch size), 8), also with the batch sampler of mmdet's configs."""
    runner = make_runner(coco, tmp_path, batch_size=batch_size, batch_sampler=batch_sampler)
    assert runner.train_loop.dataloader is runner.train_dataloader
    hook = CrossIterationHook(window_size='auto')
    hook.before_run(runner)
    hook.before_train(runner)
    norms = cross_iteration_layers(runner.model)
    assert {norm.window_size for norm in norms.values()} == {expected}


def test_automatic_window_size_where_the_span_costs_nothing(coco, tmp_path):
    """64 images of a process for averages that grow, beside the paper's rule for equal windows."""
    model = detector({'type': 'CBN', 'averaging': 'growing'}, {'type': 'AvgBN'})
    model['bbox_head']['norm_cfg'] = {'type': 'CBN', 'averaging': 'exponential'}
    runner = make_runner(coco, tmp_path, batch_size=3, model=model)
    hook = CrossIterationHook(window_size='auto')
    hook.before_run(runner)
    hook.before_train(runner)
    norms = cross_iteration_layers(runner.model)
    assert [norms[name].window_size for name in (IN_BACKBONE, IN_NECK, IN_HEAD)] == [22, 22, 6]


def test_automatic_span_of_a_head_that_runs_on_each_level(coco, tmp_path):
    """64 images of a process, each of which is as many calls as there are levels."""
    hook = CrossIterationHook(window_size='auto')
    run = Trained(coco, tmp_path, hook, model=detector({'type': 'AvgBN'}, {'type': 'AvgBN'}))
    assert run.norms[IN_BACKBONE].window_size == run.norms[IN_NECK].window_size == 32
    assert run.norms[IN_HEAD].window_size == 32 * LEVELS
    assert run.norms[IN_HEAD].window.window_size == 32 * LEVELS


def test_window_size_for_all_layers(coco, tmp_path):
    run = Trained(coco, tmp_path, CrossIterationHook(window_size=2))
    assert {norm.window_size for norm in run.norms.values()} == {2}
    assert {int(norm.window.fill) for norm in run.norms.values()} == {1}


def test_without_arguments_the_layers_keep_theirs(coco, tmp_path):
    model = detector({'type': 'CBN', 'window_size': 3, 'burn_in': 2})
    run = Trained(coco, tmp_path, CrossIterationHook(), model=model)
    for norm in run.norms.values():
        if isinstance(norm, CrossIterationBatchNorm2d):
            assert (norm.window_size, norm.burn_in) == (3, 2)
    assert run.recorder.pooling_since[IN_BACKBONE] == 2


def random_losses(model: nn.Module) -> dict:
    batch = demo_mm_inputs(2, [(3, 64, 64)] * 2, num_items=[2, 2], num_classes=2)
    return model(**model.data_preprocessor(batch, True), mode='loss')


@pytest.mark.slow
def test_ema_model_is_paired_and_evaluates(coco, tmp_path):
    hook = {'type': 'CrossIterationHook', 'burn_in_epochs': 1}
    run = Trained(coco, tmp_path, EMA, hook, epochs=2, evaluate=True)
    metrics = [line for line in logged(run.runner) if 'coco/bbox_mAP' in line]
    assert len(metrics) == 2

    (ema_hook,) = (h for h in run.runner.hooks if type(h).__name__ == 'EMAHook')
    averaged = ema_hook.ema_model.module
    ours, theirs = run.norms, cross_iteration_layers(averaged)
    for name, norm in theirs.items():
        conv = averaged.get_submodule(feeding_convolution(name))
        if isinstance(norm, CrossIterationBatchNorm2d):
            assert [hook.__self__ for hook in conv._forward_hooks.values()] == [norm.handover]
    assert not torch.equal(averaged.backbone.conv1.weight, run.runner.model.backbone.conv1.weight)

    before = ours[IN_BACKBONE].iteration
    for norm in theirs.values():
        norm.burn_in = 0
    averaged.train()
    losses = [random_losses(averaged) for _ in range(2)]
    assert all(loss.isfinite() for loss in losses[-1].values())
    assert theirs[IN_BACKBONE].window.fill == 2
    assert ours[IN_BACKBONE].iteration == before


class CpuBfloat16(OptimWrapper):
    """What AmpOptimWrapper is on a GPU; its own constructor refuses to run without one."""

    def optim_context(self, model):
        return torch.autocast('cpu', torch.bfloat16)


@pytest.mark.slow
def test_trains_in_bfloat16_on_cpu(coco, tmp_path):
    wrapper = {'type': CpuBfloat16, 'optimizer': {'type': 'SGD', 'lr': 0.01}}
    run = Trained(coco, tmp_path, CrossIterationHook(burn_in_epochs=1), epochs=2, optim_wrapper=wrapper)
    lines = logged(run.runner)
    assert all(math.isfinite(line['loss']) for line in lines)
    assert lines[-1]['cbn_fill'] == 3
    for norm in run.norms.values():
        assert norm.window.mean.dtype == torch.float32
        assert norm.window.mean.isfinite().all()
        assert norm.running_mean.isfinite().all()


@pytest.mark.slow
@pytest.mark.gpu  # which AmpOptimWrapper asks for
@pytest.mark.parametrize('dtype', ['float16', 'bfloat16'])
def test_trains_with_amp_optim_wrapper(coco, tmp_path, dtype):
    wrapper = {'type': 'AmpOptimWrapper', 'dtype': dtype, 'optimizer': {'type': 'SGD', 'lr': 0.01}}
    run = Trained(coco, tmp_path, CrossIterationHook(burn_in_epochs=1), epochs=2, optim_wrapper=wrapper)
    assert all(math.isfinite(line['loss']) for line in logged(run.runner)[EPOCH:])
    for norm in run.norms.values():
        assert norm.window.fill == 3
        assert norm.window.mean.dtype == torch.float32


def test_model_without_our_layers_gets_a_warning(coco, tmp_path):
    runner = make_runner(
        coco, tmp_path, CrossIterationHook(burn_in_epochs=1), model=detector({'type': 'BN'}, {'type': 'BN'})
    )
    runner.train()
    log = next(Path(runner.log_dir).glob('*.log')).read_text()
    assert 'no CBN, NaiveCBN, CmBN or AvgBN layer' in log
    assert not any(key.startswith('cbn_') for line in logged(runner) for key in line)


def test_model_that_cannot_be_paired_ends_before_training(coco, tmp_path):
    model = detector()
    model['neck']['norm_cfg'] = CBN
    model['neck']['conv_cfg'] = {'type': 'DCN'}
    runner = make_runner(coco, tmp_path, CrossIterationHook(), model=model)
    with pytest.raises(TypeError, match=r'neck\.lateral_convs\.0\.bn .*neck\.lateral_convs\.0\.conv'):
        runner.train()
    assert runner.iter == 0


@pytest.mark.parametrize('value', [-1, -0.5, float('nan'), float('inf'), '3', True])
def test_wrong_burn_in_epochs(value):
    with pytest.raises(ValueError, match=f'burn_in_epochs={value!r}'):
        CrossIterationHook(burn_in_epochs=value)


@pytest.mark.parametrize('value', [0, -4, 2.0, 'automatic', '4', True])
def test_wrong_window_size(value):
    with pytest.raises(ValueError, match=f'window_size={value!r}'):
        CrossIterationHook(window_size=value)


@pytest.mark.parametrize(('sampler', 'iterations'), [(InfiniteSampler, 3), (DefaultSampler, 6)])
def test_an_epoch_of_the_infinite_sampler_is_shared_by_the_processes(sampler, iterations):
    """Its length is that of the whole data set, while other samplers count the share of their process."""
    batches = BatchSampler(sampler(range(12), shuffle=False), batch_size=2, drop_last=False)
    runner = SimpleNamespace(train_dataloader=DataLoader(range(12), batch_sampler=batches), world_size=2)
    assert _epoch_length(runner) == iterations


class StepRecorder(Hook):
    """Notes after each iteration how full the window of a CmBN layer is."""

    priority = 'VERY_LOW'

    def __init__(self) -> None:
        self.fills: list[int] = []

    def after_train_iter(self, runner, *args, **kwargs) -> None:
        self.fills.append(int(runner.model.get_submodule(IN_BACKBONE).window.fill))


def test_cmbn_begins_anew_with_each_step_of_the_optimizer(coco, tmp_path):
    recorder = StepRecorder()
    make_runner(
        coco,
        tmp_path,
        CrossIterationHook(),
        recorder,
        model=detector({'type': 'CmBN', 'window_size': 8}),
        epochs=3,
        optim_wrapper={'optimizer': {'type': 'SGD', 'lr': 0.01}, 'accumulative_counts': 4},
    ).train()
    # Nine iterations; MMEngine takes a step with the last one as well.
    assert recorder.fills == [1, 2, 3, 0, 1, 2, 3, 0, 0]


def test_any_of_several_optimizers_ends_a_step():
    wrappers = {
        name: OptimWrapper(torch.optim.SGD(nn.Linear(1, 1).parameters(), 0.1), accumulative_counts=counts)
        for name, counts in (('one', 2), ('other', 3))
    }
    stepped = []
    for _ in range(6):
        for wrapper in wrappers.values():
            wrapper.update_params(next(iter(wrapper.optimizer.param_groups[0]['params'])).sum())
        stepped.append(_has_stepped(OptimWrapperDict(**wrappers)))
    assert stepped == [False, True, True, True, False, True]
