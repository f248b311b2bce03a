"""Leaving the processes of a run, in real ones."""

import multiprocessing
from pathlib import Path

import torch
from torch import distributed

from mmdet_cbn.launch import leave_processes


def worker(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    store = distributed.FileStore(str(folder / 'store'), 2)
    distributed.init_process_group('gloo', store=store, rank=rank, world_size=2)
    for _ in range(20):
        tensor = torch.ones(1000)
        distributed.all_reduce(tensor)
    leave_processes()
    assert not distributed.is_initialized()
    leave_processes()  # where there is nothing to leave
    (folder / f'left_{rank}').write_text(str(tensor[0].item()))


def test_processes_leave_their_group(tmp_path):
    context = multiprocessing.get_context('fork')
    processes = [context.Process(target=worker, args=(rank, tmp_path)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert [(tmp_path / f'left_{rank}').read_text() for rank in range(2)] == ['2.0', '2.0']
