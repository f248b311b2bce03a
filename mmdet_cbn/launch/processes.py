"""The processes of a run: whether there can be so many, joining them, and leaving them."""

import os
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import torch
from mmengine.config import Config
from torch import distributed

from .errors import LaunchError

# What each launcher tells its processes.
VARIABLES = {
    'none': (),
    'pytorch': ('RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT'),
    'slurm': ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_NODELIST'),
    'mpi': (),
}
_OF_MPI = 'OMPI_COMM_WORLD_LOCAL_RANK'


def place_process(launcher: str) -> None:
    """Settle that a process which no launcher started is the first of its machine, and alone.

    What another launcher left in the environment would have it be silent, and check nothing. The process with
    which tools/dist_train.sh checks, before it starts any, is such a one as well.

    Args:
        launcher: What the command line says.

    Raises:
        LaunchError: The launcher's variables are no numbers, or contradict each other.
    """
    started = launcher != 'none' and all(name in os.environ for name in VARIABLES[launcher])
    if launcher == 'mpi':
        started = _OF_MPI in os.environ
    if not started:
        for name in ('LOCAL_RANK', 'SLURM_LOCALID'):
            os.environ.pop(name, None)
        return
    if launcher == 'mpi':  # MMEngine looks for LOCAL_RANK, which mpirun calls otherwise
        os.environ['LOCAL_RANK'] = os.environ[_OF_MPI]
    for rank, number in (
        ('RANK', 'WORLD_SIZE'),
        ('LOCAL_RANK', 'LOCAL_WORLD_SIZE'),
        ('SLURM_PROCID', 'SLURM_NTASKS'),
    ):
        if rank in os.environ and number in os.environ and _whole(rank) >= _whole(number):
            raise LaunchError(
                f'the environment has {rank}={os.environ[rank]} and {number}={os.environ[number]}: ranks '
                'count from 0 and are lower; unset what was left by another launcher'
            )


def _whole(name: str) -> int:
    if not os.environ[name].isdecimal():
        raise LaunchError(
            f'the environment has {name}={os.environ[name]}, which must be a whole number: unset it'
        )
    return int(os.environ[name])


def check_devices(cfg: Mapping[str, Any]) -> None:
    """Check that there is a GPU for each process, unless there are no GPUs at all.

    Args:
        cfg: A config with ``launcher`` set. Under torchrun, the number of processes on this machine
            comes from the environment.

    Raises:
        LaunchError: More processes than GPUs, or a launcher that cannot do without GPUs.
    """
    if cfg['launcher'] == 'none':
        return
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    processes = _whole('LOCAL_WORLD_SIZE') if 'LOCAL_WORLD_SIZE' in os.environ else 1
    if gpus and processes > gpus:
        raise LaunchError(
            f'{processes} processes were asked for, and this machine has {gpus} GPU(s): ask for at most '
            f'{gpus}, or set CUDA_VISIBLE_DEVICES=-1 to run on the CPU'
        )
    if not gpus and cfg['launcher'] != 'pytorch':
        raise LaunchError(
            f'--launcher {cfg["launcher"]} needs GPUs, and this machine has none; on the CPU use '
            'tools/dist_train.sh and tools/dist_test.sh'
        )


def start_processes(cfg: Config) -> None:
    """Join the processes with gloo on a machine without GPUs; leave it to MMEngine where there are any.

    MMEngine (0.10) selects a CUDA device before it joins the processes, and hands one to
    ``DistributedDataParallel``: neither works on a machine without GPUs.

    Args:
        cfg: A config with ``launcher`` set. On the CPU, a ``model_wrapper_cfg`` is set in it.

    Raises:
        LaunchError: The launcher did not start this process.
    """
    lacking = [name for name in VARIABLES[cfg.launcher] if name not in os.environ]
    if lacking:
        raise LaunchError(
            f'--launcher {cfg.launcher}: the environment has no {", ".join(lacking)}; start the processes '
            f'with tools/{"slurm" if cfg.launcher == "slurm" else "dist"}_train.sh or _test.sh, or leave the '
            'option out'
        )
    if cfg.launcher == 'mpi':
        os.environ.setdefault('LOCAL_RANK', '0')
    if cfg.launcher == 'none' or torch.cuda.is_available():
        return
    timeout = cfg.get('env_cfg', {}).get('dist_cfg', {}).get('timeout', 1800)
    distributed.init_process_group('gloo', timeout=timedelta(seconds=timeout))
    cfg.model_wrapper_cfg = {
        'type': 'MMDistributedDataParallel',
        'broadcast_buffers': False,
        'find_unused_parameters': cfg.get('find_unused_parameters', False),
        **(cfg.get('model_wrapper_cfg') or {}),
        'device_ids': None,
    }


def leave_processes() -> None:
    """End the process group of a run that came to its end.

    A process that exits with it sometimes aborts in one of Gloo's threads (pytorch issue 190489), and a run
    that has done all its work would end as a failure. After an error there is no leaving: the others may wait
    in a call, and torchrun ends them.
    """
    if distributed.is_available() and distributed.is_initialized():
        # Gloo's threads need the GIL to free the tensors of the last call, and destroy_process_group may
        # hold it while it waits for them.
        time.sleep(0.2)
        distributed.destroy_process_group()
