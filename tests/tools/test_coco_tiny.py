"""The paper's Mask R-CNN on real COCO images: train, resume and test in two processes on the CPU."""

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COCO_TINY = ROOT.parent / 'shared/data/coco_tiny'  # a small part of COCO 2017, where somebody put it
CONFIG = 'configs/cbn/mask-rcnn_r50_fpn_4conv1fc_cbn_4xb4-1x_coco.py'
BY_ITERATION = 'configs/mabn/mask-rcnn_r50-scratch_fpn_4conv1fc_mabn-all_8xb2-2x_coco.py'
SMALL = [
    '--cfg-options',
    'model.backbone.init_cfg=None',
    'train_dataloader.batch_size=1',
    'train_dataloader.num_workers=0',
    'train_dataloader.persistent_workers=False',
    'train_dataloader.dataset.indices=4',
    'train_dataloader.dataset.pipeline.2.scale=(256,192)',
    'val_dataloader.num_workers=0',
    'val_dataloader.persistent_workers=False',
    'val_dataloader.dataset.pipeline.1.scale=(256,192)',
    'test_dataloader.num_workers=0',
    'test_dataloader.persistent_workers=False',
    'test_dataloader.dataset.pipeline.1.scale=(256,192)',
    'model.train_cfg.rpn_proposal.max_per_img=100',
    'model.train_cfg.rcnn.sampler.num=32',
    'model.test_cfg.rpn.max_per_img=100',
    'model.test_cfg.rcnn.max_per_img=20',
    'default_hooks.logger.interval=1',
    'model.test_cfg.rcnn.score_thr=0.0',  # after four iterations nothing scores higher
]


def run(script: str, *arguments: str) -> str:
    result = subprocess.run(
        ['bash', f'tools/{script}', *arguments],
        cwd=ROOT,
        env={**os.environ, 'COCO_ROOT': str(COCO_TINY)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout + result.stderr


def logged(work: Path) -> list[dict[str, float]]:
    """Return the record of every logged iteration, over all starts of the run."""
    lines = [
        line
        for file in sorted(work.glob('*/vis_data/scalars.json'))
        for line in file.read_text().splitlines()
    ]
    records = [json.loads(line) for line in lines]
    return [record for record in records if 'loss' in record]


def losses(work: Path) -> list[tuple[int, float]]:
    """Return epoch and loss of every logged iteration."""
    return [(record['epoch'], record['loss']) for record in logged(work)]


@pytest.mark.slow
@pytest.mark.skipif(not COCO_TINY.is_dir(), reason=f'{COCO_TINY} is not there')
def test_train_resume_and_test_on_real_images(tmp_path):
    work = tmp_path / 'work'
    # Evaluation, which takes most of the time, is for dist_test.sh.
    end = ['train_cfg.max_epochs=1', 'train_cfg.val_interval=100', 'custom_hooks.0.burn_in_epochs=0.5']
    run('dist_train.sh', CONFIG, '2', '--work-dir', str(work), *SMALL, *end)
    assert (work / 'epoch_1.pth').is_file()
    assert [epoch for epoch, _ in losses(work)] == [1, 1]

    end[0] = 'train_cfg.max_epochs=2'
    output = run('dist_train.sh', CONFIG, '2', '--work-dir', str(work), '--resume', *SMALL, *end)
    assert 'resumed epoch: 1' in output
    assert (work / 'epoch_2.pth').is_file()
    assert [epoch for epoch, _ in losses(work)] == [1, 1, 2, 2]
    assert all(loss == loss and loss < 100 for _, loss in losses(work))

    output = run(
        'dist_test.sh', CONFIG, str(work / 'epoch_2.pth'), '2', '--work-dir', str(tmp_path / 'test'), *SMALL
    )
    assert 'coco/bbox_mAP:' in output
    assert 'coco/segm_mAP:' in output


@pytest.mark.slow
@pytest.mark.skipif(not COCO_TINY.is_dir(), reason=f'{COCO_TINY} is not there')
def test_train_by_iterations_on_real_images(tmp_path):
    """The MABN authors' schedule: their warm-up, checkpoints named by iterations."""
    length = ['train_cfg.max_iters=3', 'default_hooks.checkpoint.interval=3']
    few = 'val_dataloader.dataset.indices=1'
    run('dist_train.sh', BY_ITERATION, '1', '--work-dir', str(tmp_path), *SMALL, *length, few)
    records = logged(tmp_path)
    assert [record['step'] for record in records] == [1, 2, 3]
    rising = [0.02 * (1 / 3 + 2 / 3 * iteration / 500) for iteration in range(3)]
    assert [record['lr'] for record in records] == pytest.approx(rising)
    assert all(0 < record['loss'] < 100 for record in records)
    assert [path.name for path in tmp_path.glob('*.pth')] == ['iter_3.pth']
