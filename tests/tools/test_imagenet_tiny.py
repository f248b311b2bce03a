"""A row of ImageNet on scikit-learn's digits, in two processes: train, test, report."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.reports.runs import find_tests
from tests.helpers.digit_folders import options, write_digits

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
NAME = 'resnet18_cbn_4xb4_in1k'
CONFIG = f'configs/imagenet/{NAME}.py'


@pytest.fixture(scope='module')
def digits(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('data') / 'digits'
    write_digits(folder, train=24, val=10)
    return folder


def start(*command: object, digits: Path) -> tuple[int, str]:
    result = subprocess.run(
        [*map(str, command)],
        cwd=ROOT,
        env={
            **os.environ,
            'PYTHON': sys.executable,
            'PYTHONPATH': str(ROOT),
            'CUDA_VISIBLE_DEVICES': '-1',
            'IMAGENET_ROOT': str(digits),
        },
        capture_output=True,
        text=True,
        timeout=600,
    )
    return result.returncode, result.stdout + result.stderr


def test_train_and_test_in_two_processes_and_report(digits: Path, tmp_path, monkeypatch, capsys):
    work = tmp_path / NAME
    burn_in = ['custom_hooks.0.burn_in_epochs=2', 'default_hooks.checkpoint.interval=3']
    # Gentle crops, and no flips: these are digits.
    crops = ['train_dataloader.dataset.pipeline.1.crop_ratio_range=(0.7,1.0)']
    crops += ['train_dataloader.dataset.pipeline.2.prob=0.0', 'train_cfg.val_interval=3']
    settings = [*options(channels=16), 'train_cfg.max_epochs=3', 'param_scheduler.T_max=3', *burn_in, *crops]
    arguments = ['--work-dir', work, '--cfg-options', *settings]
    status, output = start('bash', 'tools/dist_train.sh', CONFIG, 2, *arguments, digits=digits)
    assert status == 0, output[-3000:]
    (file,) = work.glob('*/vis_data/scalars.json')
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    losses = [row['loss'] for row in rows if 'loss' in row]
    assert len(losses) == 3 * 240 / (2 * 4)
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])
    fills = {row['iter']: row['cbn_fill'] for row in rows if 'cbn_fill' in row}
    assert fills[90] == 3  # the earlier iterations of a window of 4
    assert min(fills) > 60  # the burn-in

    command = ['bash', 'tools/dist_test.sh', CONFIG, work / 'epoch_3.pth', 2]
    status, output = start(*command, *arguments, digits=digits)
    assert status == 0, output[-3000:]
    # Not what the training measured: there each process has running statistics of its own.
    (file,) = find_tests(work)
    metrics, _ = json.JSONDecoder().raw_decode(file.read_text())  # both processes write it
    assert 40 < metrics['accuracy/top1'] <= metrics['accuracy/top5'] <= 100  # 10 % by chance

    monkeypatch.setattr(sys, 'argv', ['report.py', str(work)])
    runpy.run_path(str(ROOT / 'tools/report.py'), run_name='__main__')
    results = capsys.readouterr().out.split('## Results')[1].splitlines()
    lines = [[cell.strip() for cell in line.split('|')[1:-1]] for line in results if line.startswith('|')]
    top1, top5 = metrics['accuracy/top1'], metrics['accuracy/top5']
    assert lines[0] == ['run', '', 'top-1', 'top-5']
    assert lines[2] == [NAME, 'ours', f'{top1:.1f}', f'{top5:.1f}']
    assert lines[3] == ['', 'paper', '70.0', '-']
    assert lines[4][1:] == ['difference', f'{top1 - 70:+.1f}', '-']
