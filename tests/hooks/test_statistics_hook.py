"""The hook in MMEngine's own training loops, on a small network."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor, nn

from mmdet_cbn.analysis.statistics.file import read_statistics
from mmdet_cbn.hooks import CrossIterationHook, StatisticsHook, statistics_hook
from mmdet_cbn.layers import CrossIterationBatchNorm2d
from tests.helpers import training

EPOCH = 3  # iterations


class SmallModel(BaseModel):
    """Two normalized convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 4, 3), CrossIterationBatchNorm2d(4), nn.ReLU(inplace=True))
        self.second = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))

    def forward(self, images: Tensor, mode: str = 'tensor') -> dict[str, Tensor]:
        return {'loss': self.second(self.first(images)).exp().mean()}


class Look(Hook):
    """Reads the file of statistics after each epoch."""

    priority = 'VERY_LOW'

    def __init__(self) -> None:
        self.calls: list[list[int]] = []

    def after_train_epoch(self, runner: Runner) -> None:
        layer = read_statistics(Path(runner.log_dir) / 'statistics.npz')['second.1']
        self.calls.append(layer.records['call'].tolist())


def make_runner(work_dir: Path, *hooks: Hook | dict, by_epoch: bool = True) -> Runner:
    batches = {
        'batch_size': 2,
        'num_workers': 0,
        'sampler': {'type': 'DefaultSampler' if by_epoch else 'InfiniteSampler', 'shuffle': False},
        'dataset': torch.rand(2 * EPOCH, 1, 8, 8),
        'collate_fn': lambda images: {'images': torch.stack(images)},
    }
    length = {'epochs': 2} if by_epoch else {'iterations': 2 * EPOCH}
    seldom = {'checkpoint': {'type': 'CheckpointHook', 'interval': -1}}
    hooks = (CrossIterationHook(), *hooks)
    return training.make_runner(work_dir, SmallModel(), batches, *hooks, **length, default_hooks=seldom)


def hooks_in(model: nn.Module) -> list[tuple[int, int]]:
    return [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]


def test_records_and_writes_after_each_epoch(tmp_path):
    look = Look()
    runner = make_runner(tmp_path, {'type': 'StatisticsHook', 'interval': 2}, look)
    runner.train()
    assert look.calls == [[1, 3], [1, 3, 5]]
    layers = read_statistics(Path(runner.log_dir) / 'statistics.npz')
    assert {name: layer.kind for name, layer in layers.items()} == {
        'first.1': 'CrossIterationBatchNorm2d',
        'second.1': 'BatchNorm2d',
    }
    for layer in layers.values():
        assert np.isfinite(layer.records['psi']).all()
    np.testing.assert_array_equal(np.isnan(layers['first.1'].records['compensation']), [True, False, False])
    paired = make_runner(tmp_path / 'without')
    paired.train()
    assert hooks_in(runner.model) == hooks_in(paired.model)


def test_loop_of_iterations_writes_with_each_checkpoint(tmp_path):
    hook = StatisticsHook(layers=['second.*'], limit=4)
    runner = make_runner(tmp_path, hook, by_epoch=False)
    hook.before_train(runner)
    path = Path(runner.log_dir) / 'statistics.npz'
    runner.model.second(torch.rand(2, 4, 8, 8))
    runner.save_checkpoint(str(tmp_path), 'checkpoint.pth', save_optimizer=False, save_param_scheduler=False)
    assert read_statistics(path)['second.1'].records['call'].tolist() == [1]
    runner.train()  # anew, with fresh hooks in the model
    layers = read_statistics(path)
    assert list(layers) == ['second.1']
    assert layers['second.1'].records['call'].tolist() == [1, 3, 5]
    assert not runner.model.second[1]._forward_hooks


def test_wrong_pattern_ends_before_training(tmp_path):
    with pytest.raises(
        ValueError, match="'neck.*' matches no batch norm of SmallModel, which has first.1, s"
    ):
        make_runner(tmp_path, StatisticsHook(layers=['neck.*'])).train()


def test_wrapped_model(tmp_path):
    hook, model = StatisticsHook(), SmallModel()
    runner = SimpleNamespace(model=nn.DataParallel(model), log_dir=str(tmp_path))
    hook.before_train(runner)
    model.second(torch.rand(2, 4, 8, 8)).exp().mean().backward()
    hook.after_train(runner)
    layers = read_statistics(tmp_path / 'statistics.npz')
    assert list(layers) == ['first.1', 'second.1']
    assert hooks_in(model) == hooks_in(SmallModel())


def test_other_processes_record_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(statistics_hook, 'is_main_process', lambda: False)
    hook, model = StatisticsHook(), SmallModel()
    runner = SimpleNamespace(model=model, log_dir=str(tmp_path))
    hook.before_train(runner)
    assert hooks_in(model) == hooks_in(SmallModel())
    hook.after_train(runner)
    assert not any(tmp_path.iterdir())
