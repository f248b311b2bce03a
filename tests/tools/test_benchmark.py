"""tools/benchmark.py from the command line."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments):
    command = [sys.executable, 'tools/benchmark.py', *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.slow
def test_a_detector_with_every_norm(tmp_path):
    config = ROOT / 'configs/quickstart/mask-rcnn_r18_fpn_4conv1fc_cbn_shapes.py'
    files = tmp_path / 'a.json', tmp_path / 'a.png'
    size = ['--images', 1, '--size', 128, 128, '--rounds', 1]
    result = run('model', '--config', config, *size, '--json', files[0], '--plot', files[1])
    assert result.returncode == 0, result.stderr
    rows = {row['norm']: row for row in json.loads(files[0].read_text())['results']}
    assert rows['BN']['train_ratio'] == 1
    assert rows['CBN']['parameters'] == rows['BN']['parameters']
    # One weight-gradient for each convolution with CBN, less for an eighth of the positions.
    assert rows['BN']['gflop'] < rows['CBN, fraction 1/8']['gflop'] < rows['CBN']['gflop']
    assert rows['CBN']['state_mb'] > rows['Naive CBN']['state_mb'] > 0
    assert files[1].exists()
    for norm in rows:
        assert re.search(rf'^\| {norm} +\|', result.stdout, re.MULTILINE)
