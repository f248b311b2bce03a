"""Training on a machine that lacks something."""

import pytest

from tests.helpers.machine import fake_two_gpus, limit_files, take_port
from tests.helpers.wrong_input import TRAIN, Case

pytestmark = pytest.mark.slow

JOINED = {'RANK': '0', 'LOCAL_RANK': '0', 'WORLD_SIZE': '1', 'MASTER_ADDR': '127.0.0.1'}
PYTORCH = ('config.py', '--launcher', 'pytorch')
CASES = [
    Case(
        'more-processes-than-gpus',
        ('3 processes', '2 GPU(s)', 'CUDA_VISIBLE_DEVICES=-1'),
        arguments=PYTORCH,
        environment={'LOCAL_WORLD_SIZE': '3'},
        prepare=fake_two_gpus,
    ),
    Case(
        'slurm-on-cpu',
        ('--launcher slurm needs GPUs', 'tools/dist_train.sh'),
        arguments=('config.py', '--launcher', 'slurm'),
    ),
    Case(
        'no-launcher', ('--launcher pytorch', 'RANK', 'MASTER_PORT', 'tools/dist_train.sh'), arguments=PYTORCH
    ),
    Case(
        'taken-port',
        ('MASTER_PORT', 'is taken', 'PORT'),
        arguments=PYTORCH,
        environment=JOINED,
        prepare=take_port,
    ),
    Case(
        'disk-full-at-a-checkpoint',
        ('cannot write', 'work_dirs/config/epoch_1.pth', 'too large', 'make room'),
        prepare=limit_files,
        runs=True,
    ),
]


@pytest.mark.parametrize('case', CASES, ids=lambda case: case.name)
def test_ends_with_one_message(case, check):
    check(TRAIN, case)
