"""The programs and scripts of tools/ that start runs, started for real on a small generated data set."""

import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('mmdet')

from mmdet_cbn.data.shapes import generate

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / 'tests/helpers/tiny_mask_rcnn.py'


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    """16 images to train on and 5 to validate on, an odd number for two processes."""
    folder = tmp_path_factory.mktemp('data') / 'shapes'
    generate(folder, train=16, val=5, size=64)
    return folder


def start(*command, path=None, **environment):
    """Run a program of tools/ from another folder, as a user may."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(('PORT', 'NNODES'))}
    env = {**own, 'PYTHON': sys.executable, 'CUDA_VISIBLE_DEVICES': '-1', **environment}
    if path:
        env['PATH'] = f'{path}:{env["PATH"]}'
    program, *arguments = map(str, command)
    runner = 'bash' if program.endswith('.sh') else sys.executable
    return subprocess.run(
        [runner, str(ROOT / 'tools' / program), *arguments],
        env={**env, 'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.slow
def test_train_and_test_in_two_processes(shapes, tmp_path):
    work_dir = tmp_path / 'work'
    trained = start('dist_train.sh', CONFIG, 2, '--work-dir', work_dir, SHAPES=str(shapes))
    assert trained.returncode == 0, trained.stderr[-3000:]
    (log,) = work_dir.glob('*/vis_data/scalars.json')
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert [row['iter'] for row in rows if 'loss' in row] == [1, 2, 3, 4]  # 16 images / (2 x 2)
    assert {'coco/bbox_mAP_50', 'coco/segm_mAP_50'} <= rows[-1].keys()

    out = tmp_path / 'predictions.pkl'
    arguments = ['--work-dir', work_dir / 'test', '--out', out, '--show-dir', 'shown']
    checkpoint = work_dir / 'epoch_1.pth'
    tested = start('dist_test.sh', CONFIG, checkpoint, 2, *arguments, SHAPES=str(shapes))
    assert tested.returncode == 0, tested.stderr[-3000:]
    samples = pickle.loads(out.read_bytes())
    assert [sample['img_id'] for sample in samples] == [1, 2, 3, 4, 5]
    assert all(len(sample['pred_instances']['masks']) for sample in samples)
    assert len(list(work_dir.glob('test/*/shown/*'))) > 0


STRAY = {'RANK': '1', 'LOCAL_RANK': '1', 'WORLD_SIZE': '2', 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': '1'}


@pytest.mark.slow
@pytest.mark.parametrize('environment', [{}, STRAY], ids=['clean', 'left-by-another-launcher'])
def test_missing_data_is_one_message(environment, tmp_path):
    """For both programs, and through torchrun's script as well."""
    checkpoint = tmp_path / 'some.pth'
    checkpoint.touch()
    for command in (['dist_train.sh', CONFIG, 2], ['test.py', CONFIG, checkpoint]):
        result = start(*command, SHAPES=str(tmp_path / 'shapes'), **environment)
        assert result.returncode == 1
        assert 'Traceback' not in result.stderr
        assert result.stderr.count('data of the config is missing') == 1
        assert f'{tmp_path}/shapes/val2017/' in result.stderr
        assert f'python -m mmdet_cbn.data.shapes {tmp_path}/shapes' in result.stderr


@pytest.mark.slow
def test_options_reach_the_config(shapes):
    """By their effect on the checks, which need no training."""
    other = ['--cfg-options', 'train_dataloader.dataset.ann_file=other.json', '--check']
    result = start('train.py', CONFIG, *other, SHAPES=str(shapes))
    assert f'  {shapes}/other.json\n' in result.stderr


@pytest.mark.parametrize(
    ('command', 'environment', 'words'),
    [
        (['dist_train.sh', 'config.py'], {}, 'usage: tools/dist_train.sh CONFIG GPUS'),
        (['dist_test.sh', 'config.py', 'checkpoint.pth'], {}, 'usage: tools/dist_test.sh CONFIG CHECKPOINT'),
        (['dist_train.sh', 'config.py', '--amp'], {}, 'GPUS=--amp is not a number of processes'),
        (['dist_train.sh', 'config.py', '0'], {}, 'GPUS=0 is not a number of processes'),
        (['dist_train.sh', 'config.py', '2'], {'NNODES': 'two'}, 'NNODES=two is not a number of machines'),
        (
            ['dist_train.sh', 'config.py', '2'],
            {'NODE_RANK': '1'},
            'NODE_RANK=1 is not the number of one of the 1',
        ),
        (['dist_train.sh', 'config.py', '2'], {'PORT': '99999'}, 'PORT=99999 is not the number of a port'),
        (
            ['dist_train.sh', 'config.py', '2'],
            {'PYTHON': 'nothing'},
            'no nothing here; run tools/setup_env.sh',
        ),
        (['dist_train.sh', 'config.py', '2'], {'MMDET_CBN_STACK': 'new'}, 'it can be default or classic'),
        (['slurm_train.sh', 'partition', 'job', 'config.py'], {}, 'usage: tools/slurm_train.sh PARTITION'),
        (['slurm_train.sh', 'p', 'j', 'c.py', 'w'], {'GPUS': 'all'}, 'GPUS=all is not a number of GPUs'),
        (
            ['slurm_train.sh', 'p', 'j', 'c.py', 'w'],
            {'GPUS_PER_NODE': '0'},
            'GPUS_PER_NODE=0 is not a number',
        ),
        (
            ['slurm_test.sh', 'p', 'j', 'c.py', 'c.pth'],
            {},
            'no srun here; without Slurm use tools/dist_train.sh',
        ),
    ],
)
def test_wrong_command_lines(command, environment, words):
    if 'srun' in words and shutil.which('srun'):
        pytest.skip('this machine has Slurm')
    result = start(*command, **environment)
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert words in result.stderr


def test_taken_port(tmp_path):
    """Before torchrun, which reports it below two pages of tracebacks; PYTHON answers the checks alone."""
    python = tmp_path / 'python'
    python.write_text(f'#!/usr/bin/env bash\n[[ $1 != -c ]] || exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    with socket.create_server(('', 0)) as taken:
        port = str(taken.getsockname()[1])
        result = start('dist_train.sh', 'config.py', 2, PYTHON=str(python), PORT=port)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert f'PORT={port} is taken on this machine; set PORT to another one' in line
    assert start('dist_train.sh', 'config.py', 2, PYTHON=str(python), PORT=port).returncode == 0


def recorder(folder, name):
    """A program that prints the arguments that it gets, and answers nothing else."""
    path = folder / name
    path.write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$0" "$@"\n')
    path.chmod(0o755)
    return path


def test_variables_of_a_run_on_several_machines(tmp_path):
    python = recorder(tmp_path, 'python')
    variables = {'NNODES': '2', 'NODE_RANK': '1', 'MASTER_ADDR': 'far', 'PORT': '1234'}
    result = start('dist_train.sh', 'a config.py', 4, '--amp', PYTHON=str(python), **variables)
    _, launched = result.stdout.split('--check\n')  # the checks first, then torchrun
    assert launched.splitlines() == [
        str(python),
        *['-m', 'torch.distributed.run', '--nnodes=2', '--node_rank=1', '--master_addr=far'],
        *['--master_port=1234', '--nproc_per_node=4', f'{ROOT}/tools/train.py'],
        *['a config.py', '--amp', '--launcher', 'pytorch'],
    ]


def test_slurm(tmp_path):
    recorder(tmp_path, 'srun')
    variables = {'PYTHON': 'env', 'GPUS': '4', 'CPUS_PER_TASK': '3', 'SRUN_ARGS': '--quiet --mem=1G'}
    resources = ['--gres=gpu:4', '--ntasks=4', '--ntasks-per-node=4', '--cpus-per-task=3']
    result = start('slurm_train.sh', 'part', 'job', 'c.py', 'work', '--amp', path=tmp_path, **variables)
    assert result.stdout.splitlines()[1:] == [
        *['--partition=part', '--job-name=job', *resources, '--kill-on-bad-exit=1', '--quiet', '--mem=1G'],
        *['env', '-u', f'{ROOT}/tools/train.py', 'c.py', '--work-dir', 'work', '--amp'],
        *['--launcher', 'slurm'],
    ]
    result = start('slurm_test.sh', 'part', 'job', 'c.py', 'c.pth', path=tmp_path, **variables)
    assert result.stdout.splitlines()[-6:] == [
        *['-u', f'{ROOT}/tools/test.py', 'c.py', 'c.pth', '--launcher', 'slurm']
    ]
