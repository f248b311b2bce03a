"""Work in processes of their own, which may be killed.

They are forks of a server that has imported what they need, and computed nothing yet: they start at once, and
inherit no locks of threads that they have not.
"""

import gc
import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess

import torch
from torch import distributed

_context = multiprocessing.get_context('forkserver')
_context.set_forkserver_preload(
    ['mmdet.models', 'mmdet.datasets', 'mmdet.evaluation', 'mmdet_cbn', 'torch._dynamo']
)


def start(work: Callable, *arguments: object, processes: int = 1) -> list[BaseProcess]:
    """Start ``work(rank, *arguments)`` in processes, joined by gloo where there are several.

    Args:
        work: A function of a module.
        *arguments: Its arguments behind the rank.
        processes: How many.
    """
    # Not over a file: torch 2.1 sometimes waits for one that the first process to end has removed.
    address = f'tcp://127.0.0.1:{_free_port()}'
    started = [
        _context.Process(target=_run, args=(rank, processes, address, work, arguments), daemon=True)
        for rank in range(processes)
    ]
    for process in started:
        process.start()
    return started


def finish(started: list[BaseProcess], limit: float = 120) -> list[int | None]:
    """Wait for the end, by force after ``limit`` seconds, or once one has failed; return exit statuses."""
    end = time.monotonic() + limit
    while any(process.is_alive() for process in started):
        if time.monotonic() > end or any(process.exitcode for process in started):
            for process in started:
                process.kill()
        time.sleep(0.005)
    return [process.exitcode for process in started]


def run(work: Callable, *arguments: object, processes: int = 1, limit: float = 120) -> None:
    """Do the same, and fail where a process did; -9 is the status of one that hung."""
    assert finish(start(work, *arguments, processes=processes), limit) == [0] * processes


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def _run(rank: int, processes: int, address: str, work: Callable, arguments: tuple) -> None:
    os.environ['CUDA_VISIBLE_DEVICES'] = '-1'
    if mmengine_device := sys.modules.get('mmengine.device.utils'):
        mmengine_device.DEVICE = 'cpu'  # the server looked for a GPU when it imported it
    torch.set_num_threads(1)
    gc.freeze()  # MMEngine collects garbage, and would walk through all that the server imported
    if processes == 1:
        work(rank, *arguments)
        return
    os.environ['LOCAL_RANK'] = str(rank)
    distributed.init_process_group('gloo', address, rank=rank, world_size=processes)
    work(rank, *arguments)
    distributed.barrier()
    # destroy_process_group may wait for gloo's thread with the GIL held, which that needs to free a tensor.
    os._exit(0)
