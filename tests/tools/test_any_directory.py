"""Tools that use experiments/, which is not installed, find it wherever they are called."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('mmdet')

TOOLS = Path(__file__).parents[2] / 'tools'


@pytest.mark.slow
@pytest.mark.parametrize('name', ['benchmark', 'correction', 'plot_statistics', 'report'])
def test_help_from_another_folder(tmp_path, name):
    environment = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}
    command = [sys.executable, '-W', 'ignore', str(TOOLS / f'{name}.py'), '--help']
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith(f'usage: {name}.py')
