"""The files beside the checkpoints: written, removed, and missed with a message."""

import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.hooks import Hook
from mmengine.runner import Runner, load_checkpoint

from mmdet_cbn.hooks import CrossIterationHook
from mmdet_cbn.hooks.norm_state_files import save_beside_checkpoints
from mmdet_cbn.layers import CrossIterationBatchNorm2d
from tests.helpers import processes
from tests.helpers.detectors import retinanet
from tests.helpers.resumable_training import MIXED, make_runner, train
from tests.helpers.snapshot import assert_same, snapshot

SAVING = {'type': 'CrossIterationHook', 'save_window': True}
LAYERS = 14


def run(
    images: Path, work_dir: Path, hook: dict = SAVING, model: dict = MIXED, iterations=6, **kwargs
) -> Runner:
    runner = make_runner(images, work_dir, model, hook, iterations=iterations, **kwargs)
    runner.train()
    return runner


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Compute like the processes that tests start: sums of two threads round otherwise."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def warnings_of(runner: Runner) -> list[str]:
    (log,) = Path(runner.log_dir).glob('*.log')
    return [line for line in log.read_text().splitlines() if 'CrossIterationHook' in line]


@pytest.fixture(scope='module')
def six_iterations(images, tmp_path_factory) -> Path:
    """A run with checkpoints of iterations 3 and 6."""
    return Path(run(images, tmp_path_factory.mktemp('six')).work_dir)


@pytest.fixture
def interrupted(six_iterations, tmp_path) -> Path:
    """The same, to be changed."""
    for path in six_iterations.glob('iter_*'):
        shutil.copy(path, tmp_path)
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'iter_6.pth'))
    return tmp_path


def windows(runner: Runner) -> list[int]:
    norms = [m for m in runner.model.modules() if isinstance(m, CrossIterationBatchNorm2d)]
    return [int(norm.window.fill) for norm in norms]


def test_each_checkpoint_has_its_file(six_iterations):
    names = {path.name for path in six_iterations.glob('*.pt*')}
    assert names == {
        'iter_3.pth',
        'iter_3.norms_rank0_of_1.pt',
        'iter_6.pth',
        'iter_6.norms_rank0_of_1.pt',
    }
    saved = torch.load(six_iterations / 'iter_3.norms_rank0_of_1.pt', weights_only=True)
    assert saved['iteration'] == 3
    assert len(saved['norms']) == LAYERS
    assert saved['norms']['backbone.bn1']['window']['taken'] == 3
    assert saved['norms']['bbox_head.cls_convs.0.bn']['window'] is None


@pytest.mark.slow
def test_by_default_nothing_is_written_and_the_window_refills(images, tmp_path):
    hook = {'type': 'CrossIterationHook'}
    run(images, tmp_path, hook, iterations=3)
    assert not list(tmp_path.glob('*.pt'))
    resumed = run(images, tmp_path, hook, iterations=4, resume=True, log_level='INFO')
    assert set(windows(resumed)) == {1}
    (line,) = [line for line in warnings_of(resumed) if 'refill' in line]
    assert 'INFO' in line


def test_resumed_in_peace(images, interrupted):
    resumed = run(images, interrupted, iterations=7, resume=True)
    assert set(windows(resumed)) == {3}
    assert warnings_of(resumed) == []


@pytest.mark.slow
def test_resumed_from_a_checkpoint_by_its_name(images, interrupted):
    name = str(interrupted / 'iter_3.pth')
    resumed = run(images, interrupted, iterations=4, resume=True, load_from=name)
    assert set(windows(resumed)) == {3}
    assert warnings_of(resumed) == []


@pytest.mark.slow
def test_beside_the_ema_hook(images, tmp_path):
    """It swaps its own weights with the model's in the checkpoint."""
    ema = {'type': 'EMAHook', 'momentum': 0.1}

    def go(iterations, **kwargs):
        runner = make_runner(images, tmp_path, MIXED, SAVING, ema, iterations=iterations, **kwargs)
        runner.train()
        return runner

    go(3)
    resumed = go(4, resume=True)
    assert set(windows(resumed)) == {3}
    assert warnings_of(resumed) == []


@pytest.mark.slow
def test_fine_tuning_starts_with_empty_windows(images, interrupted, tmp_path_factory):
    name = str(interrupted / 'iter_6.pth')
    tuned = run(images, tmp_path_factory.mktemp('tuned'), iterations=1, load_from=name)
    assert set(windows(tuned)) == {1}
    assert warnings_of(tuned) == []


def lose(folder: Path) -> None:
    (folder / 'iter_6.norms_rank0_of_1.pt').unlink()


def cut(folder: Path) -> None:
    path = folder / 'iter_6.norms_rank0_of_1.pt'
    path.write_bytes(path.read_bytes()[:-2000])


def of_two_processes(folder: Path) -> None:
    path = folder / 'iter_6.norms_rank0_of_1.pt'
    for rank in range(2):
        shutil.copy(path, folder / f'iter_6.norms_rank{rank}_of_2.pt')
    path.unlink()


def of_another_iteration(folder: Path) -> None:
    shutil.copy(folder / 'iter_3.norms_rank0_of_1.pt', folder / 'iter_6.norms_rank0_of_1.pt')


def of_other_weights(folder: Path) -> None:
    path = folder / 'iter_6.norms_rank0_of_1.pt'
    saved = torch.load(path)
    for norm in saved['norms'].values():
        norm['tensors']['weight'] += 1e-6
    torch.save(saved, path)


DAMAGES = {
    lose: 'there is no iter_6.norms_rank0_of_1.pt',
    cut: 'iter_6.norms_rank0_of_1.pt is not a whole checkpoint',
    of_two_processes: 'the number of processes was 2 and is 1',
    of_another_iteration: 'iter_6.norms_rank0_of_1.pt is of iteration 3, the checkpoint of 6',
    of_other_weights: 'saved with other weights',
}


@pytest.mark.parametrize(('damage', 'reason'), DAMAGES.items(), ids=[d.__name__ for d in DAMAGES])
def test_one_message_says_what_was_rebuilt_and_why(images, interrupted, damage, reason):
    damage(interrupted)
    resumed = run(images, interrupted, iterations=7, resume=True)
    assert set(windows(resumed)) == {1}
    (line,) = warnings_of(resumed)
    assert 'WARNING' in line
    assert f'resumed from {interrupted}/iter_6.pth without all' in line
    assert f'backbone.bn1 and {LAYERS - 1} more (process 0): ' in line
    assert reason in line
    assert 'windows start empty and refill' in line


def test_another_window_size(images, interrupted):
    resumed = run(images, interrupted, {**SAVING, 'window_size': 6}, iterations=7, resume=True)
    assert set(windows(resumed)) == {1}
    (line,) = warnings_of(resumed)
    assert 'saved with window_size=4, the layer has window_size=6' in line


def test_what_fits_is_kept_where_one_layer_does_not(images, interrupted):
    path = interrupted / 'iter_6.norms_rank0_of_1.pt'
    saved = torch.load(path)
    del saved['norms']['backbone.bn1']
    torch.save(saved, path)
    resumed = run(images, interrupted, iterations=7, resume=True)
    assert resumed.model.backbone.bn1.window.fill == 1
    assert sorted(windows(resumed)) == [1] + [3] * (len(windows(resumed)) - 1)
    (line,) = warnings_of(resumed)
    assert 'backbone.bn1 (process 0): nothing was saved of it.' in line


@pytest.mark.slow
def test_files_go_with_their_checkpoints(images, tmp_path):
    """Also those of another number of processes; what belongs to nobody's checkpoint is left alone."""
    others = [tmp_path / 'iter_2.norms_rank1_of_2.pt', tmp_path / 'epoch_1.pt']
    for path in others:
        path.touch()
    checkpoint = {'type': 'CheckpointHook', 'interval': 2, 'by_epoch': False, 'max_keep_ckpts': 2}
    run(images, tmp_path, iterations=8, default_hooks={'checkpoint': checkpoint})
    assert {path.name for path in tmp_path.glob('*.pt*')} == {
        'epoch_1.pt',
        'iter_6.norms_rank0_of_1.pt',
        'iter_6.pth',
        'iter_8.norms_rank0_of_1.pt',
        'iter_8.pth',
    }


@pytest.mark.slow
def test_epochs(images, tmp_path):
    """The iteration of a checkpoint by epochs is counted in another way."""
    each = {'checkpoint': {'type': 'CheckpointHook', 'interval': 1}}

    def go(epochs, **kwargs):
        runner = make_runner(images, tmp_path, MIXED, SAVING, epochs=epochs, default_hooks=each, **kwargs)
        runner.train()
        return runner

    go(1)
    assert torch.load(tmp_path / 'epoch_1.norms_rank0_of_1.pt')['iteration'] == 2
    resumed = go(2, resume=True)
    assert warnings_of(resumed) == []
    assert set(windows(resumed)) == {3}


class KillDuringSave(Hook):
    """Ends the process when the main checkpoint of iteration 6 is about to be written."""

    def before_save_checkpoint(self, runner, checkpoint):
        if checkpoint['meta']['iter'] == 6:
            os.kill(os.getpid(), signal.SIGKILL)


def train_killed(rank, images, work_dir):
    make_runner(images, work_dir, MIXED, SAVING, KillDuringSave(), iterations=9).train()


@pytest.mark.slow
def test_killed_between_the_file_and_its_checkpoint(images, tmp_path):
    work_dir = tmp_path / 'work'
    work_dir.mkdir()
    killed = processes.start(train_killed, images, work_dir)
    assert processes.finish(killed) == [-signal.SIGKILL]
    assert (work_dir / 'iter_6.norms_rank0_of_1.pt').exists()
    assert (work_dir / 'last_checkpoint').read_text() == str(work_dir / 'iter_3.pth')
    resumed = run(images, work_dir, iterations=9, resume=True)
    assert warnings_of(resumed) == []

    whole = run(images, tmp_path / 'whole', iterations=9)
    assert_same(snapshot(resumed.model), snapshot(whole.model))


@pytest.mark.slow
def test_another_number_of_processes(images, tmp_path):
    """Of two processes that had their own, one goes on; and back."""
    work_dir = tmp_path / 'work'
    work_dir.mkdir()
    for number, before, iterations in ((2, 0, 3), (1, 2, 6), (2, 1, 7)):
        processes.run(train, images, work_dir, MIXED, SAVING, None, iterations, processes=number)
        logs = [log.read_text() for log in work_dir.glob('*/*.log')]
        lines = [line for text in logs for line in text.splitlines() if 'number of processes' in line]
        if before:
            assert any(f'number of processes was {before} and is {number}' in line for line in lines)
            where = ', '.join(map(str, range(number)))
            assert any(f'(process {where})' in line for line in lines)
        else:
            assert not lines


@pytest.mark.slow
def test_a_window_that_one_process_lacks_starts_empty_in_all(images, tmp_path):
    work_dir = tmp_path / 'work'
    work_dir.mkdir()
    for iterations in (3, 4):
        processes.run(train, images, work_dir, MIXED, SAVING, None, iterations, processes=2)
        (work_dir / 'iter_3.norms_rank1_of_2.pt').unlink(missing_ok=True)
    for rank in range(2):
        taken = [v for k, v in torch.load(work_dir / f'end_{rank}.pt').items() if k.endswith('window.taken')]
        assert {int(count) for count in taken} == {1}
    logs = ''.join(log.read_text() for log in work_dir.glob('*/*.log'))
    assert f'backbone.bn1 and {LAYERS - 1} more (process 1): there is no iter_3.norms_rank1_of_2.pt' in logs


@pytest.mark.parametrize('implementation', ['torch', 'mmcv'])
def test_sync_bn_of_the_config_is_refused(images, tmp_path, implementation):
    runner = make_runner(images, tmp_path, MIXED, CrossIterationHook(), iterations=1)
    runner.cfg.sync_bn = implementation
    with pytest.raises(ValueError, match=rf"sync_bn='{implementation}'.*remove it.*sync=True"):
        runner.train()


def test_checkpoints_elsewhere_are_refused(images, tmp_path):
    runner = make_runner(images, tmp_path, MIXED, SAVING, iterations=1)
    hook = next(hook for hook in runner.hooks if type(hook).__name__ == 'CheckpointHook')
    hook.out_dir = 's3://bucket/run'
    with pytest.raises(ValueError, match=r"save_window=True.*out_dir='s3://bucket/run'"):
        runner.train()


@pytest.mark.parametrize('value', [1, 'yes', None])
def test_wrong_save_window(value):
    with pytest.raises(ValueError, match=re.escape(f'save_window={value!r}')):
        CrossIterationHook(save_window=value)


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['CBN', 'NaiveCBN'])
def test_bn_takes_over_for_inference(images, tmp_path, kind):
    """The same keys and the same detections, in the same model of MMDetection with BN."""
    norm = {'type': kind, 'window_size': 4}
    ours = run(images, tmp_path, model=retinanet(norm, norm, norm), iterations=3).model.eval()
    bn = {'type': 'BN'}
    theirs = MODELS.build(retinanet(bn, bn, bn)).eval()
    checkpoint = load_checkpoint(theirs, str(tmp_path / 'iter_3.pth'), strict=False)
    extra = checkpoint['state_dict'].keys() - theirs.state_dict().keys()
    assert not theirs.state_dict().keys() - checkpoint['state_dict'].keys()
    assert {key.rpartition('.')[2] for key in extra} <= {'iterations'}
    batch = demo_mm_inputs(2, [(3, 64, 64)] * 2, num_items=[1, 1], num_classes=2)
    for data_sample in batch['data_samples']:
        data_sample.set_metainfo({'scale_factor': (1.0, 1.0)})
    with torch.no_grad():
        found, expected = ours.test_step(batch), theirs.test_step(batch)
    for mine, other in zip(found, expected, strict=True):
        assert len(mine.pred_instances) > 0
        for key in ('bboxes', 'scores', 'labels'):
            assert torch.equal(mine.pred_instances[key], other.pred_instances[key])


def test_a_second_training_of_a_runner_writes_once(images, tmp_path):
    runner = make_runner(images, tmp_path, MIXED, iterations=1)
    save_beside_checkpoints(runner, runner.model)
    saving = runner.save_checkpoint
    save_beside_checkpoints(runner, runner.model)
    assert runner.save_checkpoint is saving
