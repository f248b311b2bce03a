"""The command line of tools/gradient_ratios.py, on a model of torchvision and on a detector."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / 'tests/helpers/tiny_mask_rcnn.py'


def start(*arguments, **environment):
    return subprocess.run(
        [sys.executable, '-W', 'ignore', str(ROOT / 'tools/gradient_ratios.py'), *map(str, arguments)],
        env={
            **os.environ,
            'PYTHONPATH': str(ROOT),
            'CUDA_VISIBLE_DEVICES': '-1',
            'OMP_NUM_THREADS': '1',
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.slow
def test_classifier(tmp_path):
    pytest.importorskip('torchvision')
    path, plot = tmp_path / 'made/ratios.json', tmp_path / 'made/ratios.png'
    options = ['--size', 32, '--batch', 2, '--projections', 2, '--json', path, '--plot', plot]
    result = start('resnet18', *options)
    assert result.returncode == 0, result.stderr
    rows = json.loads(path.read_text())
    assert len(rows) == 2 * (19 + 18)  # 20 convolutions
    assert plot.stat().st_size > 0
    header, *table = [line.split() for line in result.stdout.splitlines()]
    assert header[:4] == ['statistic', 'r', 'layers', 'mean']
    assert [row[0] for row in table] == ['mu', 'mu', 'nu', 'nu']
    assert [row[4] for row in table] == ['19', '18', '19', '18']


@pytest.mark.slow
def test_detector_with_its_checkpoint(tmp_path):
    pytest.importorskip('mmdet')
    import torch
    from mmengine.config import Config
    from mmengine.registry import MODELS, init_default_scope

    from mmdet_cbn.data.shapes import generate

    generate(tmp_path / 'shapes', train=4, val=1, size=64)
    environment = {'SHAPES': str(tmp_path / 'shapes')}
    os.environ['SHAPES'] = environment['SHAPES']
    init_default_scope('mmdet')
    model = MODELS.build(Config.fromfile(CONFIG).model)
    checkpoint = tmp_path / 'model.pth'
    torch.save({'state_dict': model.state_dict()}, checkpoint)
    options = ['--projections', 2, '--json', tmp_path / 'ratios.json']
    result = start(CONFIG, '--checkpoint', checkpoint, *options, **environment)
    assert result.returncode == 0, result.stderr
    layers = {row['layer'] for row in json.loads((tmp_path / 'ratios.json').read_text())}
    assert 'backbone.layer4.1.conv2' in layers

    result = start('resnet18', '--checkpoint', checkpoint)
    assert result.returncode == 1
    assert 'does not fit the model' in result.stderr
    assert 'Traceback' not in result.stderr


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['resnet999'], 'resnet999'),
        (['configs/none.py'], 'there is no config configs/none.py'),
        (['resnet18', '--checkpoint', 'none.pth'], 'there is no checkpoint none.pth'),
        (['resnet18', '--images', 'none'], '--images none: there are no pictures'),
        (['config.py', '--size', '64'], '--size, --images and --weights are for torchvision models'),
        (['resnet18', '--projections', '1'], '--projections 1: at least 2'),
        (['resnet18', '--plot', 'ratios.pdf'], '--plot ratios.pdf: the name has to end in .png'),
    ],
)
def test_wrong_command_lines(arguments, words, monkeypatch, capsys):
    """In this process, since each start of another imports torch."""
    monkeypatch.setattr(sys, 'argv', ['gradient_ratios.py', *arguments])
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(ROOT / 'tools/gradient_ratios.py'), run_name='__main__')
    assert words in f'{left.value.code} {capsys.readouterr().err}'
