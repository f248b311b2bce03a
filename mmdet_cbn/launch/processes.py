"""Joining the processes of a run, and leaving them."""

import os
import time
from datetime import timedelta

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
    if cfg.launcher == 'mpi':  # MMEngine looks for LOCAL_RANK, which mpirun calls otherwise
        os.environ.setdefault('LOCAL_RANK', os.environ.get('OMPI_COMM_WORLD_LOCAL_RANK', '0'))
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
