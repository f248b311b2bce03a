"""Processes fit the machine, and leave their group at the end."""

import multiprocessing
from pathlib import Path

import pytest
import torch
from torch import distributed

pytest.importorskip('mmengine')

from mmdet_cbn.launch import LaunchError, leave_processes
from mmdet_cbn.launch.processes import check_devices


def test_more_processes_than_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.setenv('LOCAL_WORLD_SIZE', '2')
    check_devices({'launcher': 'pytorch'})
    monkeypatch.setenv('LOCAL_WORLD_SIZE', '3')
    check_devices({'launcher': 'none'})
    with pytest.raises(LaunchError, match=r'3 processes.* 2 GPU\(s\).*CUDA_VISIBLE_DEVICES=-1'):
        check_devices({'launcher': 'pytorch'})


def test_without_gpus_any_number_of_processes(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setenv('LOCAL_WORLD_SIZE', '64')
    check_devices({'launcher': 'pytorch'})
    with pytest.raises(LaunchError, match=r'--launcher slurm needs GPUs.*dist_train\.sh'):
        check_devices({'launcher': 'slurm'})


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
