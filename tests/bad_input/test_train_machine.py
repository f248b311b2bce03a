"""Training on a machine that lacks something."""

import pytest

from tests.helpers.machine import fake_two_gpus, limit_files, take_port
from tests.helpers.wrong_input import TRAIN, Case, each_of

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
    *(
        Case(
            f'{name}-is-{value}',
            (f'{name}={value}', 'unset it'),
            arguments=PYTORCH,
            environment={**JOINED, 'MASTER_PORT': '1', name: value},
        )
        for name, value in (('LOCAL_WORLD_SIZE', 'x'), ('WORLD_SIZE', '-1'), ('RANK', 'first'))
    ),
    Case(
        'rank-of-another-launcher',
        ('LOCAL_RANK=1', 'LOCAL_WORLD_SIZE=1', 'unset'),
        arguments=PYTORCH,
        environment={**JOINED, 'MASTER_PORT': '1', 'LOCAL_RANK': '1', 'LOCAL_WORLD_SIZE': '1'},
    ),
    *(
        Case(
            f'checked-with-a-stray-{name}-{len(arguments)}',
            ('--work-dir config.py', 'is a file'),
            arguments=(*arguments, '--work-dir', 'config.py', '--check'),
            environment={name: '1', 'LOCAL_WORLD_SIZE': '2'},
        )
        for name, arguments in (
            ('LOCAL_RANK', ('config.py',)),
            ('LOCAL_RANK', PYTORCH),
            ('SLURM_LOCALID', ('config.py',)),
        )
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


@each_of(CASES)
def test_ends_with_one_message(case, check):
    check(TRAIN, case)
