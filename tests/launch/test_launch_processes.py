"""Processes fit the machine, and leave their group at the end."""

import multiprocessing
import os
from pathlib import Path

import pytest
import torch
from torch import distributed

pytest.importorskip('mmengine')

from mmdet_cbn.launch import LaunchError, leave_processes
from mmdet_cbn.launch.errors import is_first_process
from mmdet_cbn.launch.processes import check_devices, place_process


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


JOINED = {'RANK': '3', 'LOCAL_RANK': '1', 'WORLD_SIZE': '4', 'MASTER_ADDR': 'a', 'MASTER_PORT': '1'}


@pytest.mark.parametrize(
    ('launcher', 'environment', 'first'),
    [
        ('none', {}, True),
        ('none', {'LOCAL_RANK': '1'}, True),
        ('none', {'SLURM_LOCALID': '1'}, True),
        ('none', JOINED, True),
        ('pytorch', {'LOCAL_RANK': '1'}, True),  # the check of tools/dist_train.sh
        ('pytorch', {**JOINED, 'LOCAL_WORLD_SIZE': '2'}, False),
        ('pytorch', {**JOINED, 'LOCAL_RANK': '0', 'RANK': '0', 'SLURM_LOCALID': '1'}, True),
        (
            'slurm',
            {'SLURM_PROCID': '5', 'SLURM_NTASKS': '8', 'SLURM_NODELIST': 'n', 'SLURM_LOCALID': '1'},
            False,
        ),
        ('mpi', {'OMPI_COMM_WORLD_LOCAL_RANK': '1', 'LOCAL_RANK': '0'}, False),
        ('mpi', {'LOCAL_RANK': '1'}, True),
    ],
)
def test_ranks_count_where_their_launcher_set_them(launcher, environment, first, monkeypatch):
    monkeypatch.setattr(os, 'environ', dict(environment))
    place_process(launcher)
    assert is_first_process() is first


@pytest.mark.parametrize(
    ('changed', 'words'),
    [
        ({'LOCAL_RANK': '2', 'LOCAL_WORLD_SIZE': '2'}, 'LOCAL_RANK=2 and LOCAL_WORLD_SIZE=2'),
        ({'RANK': '4'}, 'RANK=4 and WORLD_SIZE=4'),
        ({'WORLD_SIZE': '4.0'}, 'WORLD_SIZE=4.0, which must be a whole number: unset it'),
    ],
)
def test_ranks_that_contradict_each_other(changed, words, monkeypatch):
    monkeypatch.setattr(os, 'environ', {**JOINED, **changed})
    with pytest.raises(LaunchError, match=words):
        place_process('pytorch')
