"""Joining the processes of a run."""

import os
from datetime import timedelta

import torch
from mmengine.config import Config
from torch import distributed


def start_processes(cfg: Config) -> None:
    """Join the processes with gloo on a machine without GPUs; leave it to MMEngine where there are any.

    MMEngine (0.10) selects a CUDA device before it joins the processes, and hands one to
    ``DistributedDataParallel``: neither works on a machine without GPUs.

    Args:
        cfg: A config with ``launcher`` set. On the CPU, a ``model_wrapper_cfg`` is set in it.
    """
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
