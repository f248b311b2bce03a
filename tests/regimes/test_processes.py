"""DistributedDataParallel over gloo, with images of another number and size in each process.

Through MMEngine's wrapper and Runner: ``tests/tools/test_launch.py``.
"""

import os
import subprocess
import sys
from pathlib import Path

import processes
import pytest
import torch
from processes import BROADCAST_BUFFERS, batch
from small_detector import METHODS, STEPS, SmallDetector, assert_close, detection_loss, remembered
from torch import Tensor

Results = list[dict[str, Tensor]]  # of one method, for each process
ROOT = Path(__file__).parents[2]
LIMIT = 300.0  # seconds; a process that waits for another one in vain would wait for ever


@pytest.fixture(scope='module')
def trained(tmp_path_factory) -> Path:
    """Train with all methods and numbers of processes; return where the results are."""
    folder = tmp_path_factory.mktemp('processes')
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'CUDA_VISIBLE_DEVICES': ''}
    command = [sys.executable, processes.__file__, str(folder)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT)
    assert run.returncode == 0, run.stderr
    return folder


def train_replicas(method: str, world_size: int) -> Results:
    """Do in one process what DDP does: replicas with their own data, and averaged gradients."""
    models = [SmallDetector(method).double() for _ in range(world_size)]
    optimizers = [torch.optim.SGD(model.parameters(), 0.02, momentum=0.9) for model in models]
    losses = []
    for step in range(STEPS):
        if BROADCAST_BUFFERS[world_size]:
            for buffers in zip(*(model.buffers() for model in models), strict=True):
                for buffer in buffers[1:]:
                    buffer.copy_(buffers[0])
        losses.append([detection_loss(model, batch(step, rank)) for rank, model in enumerate(models)])
        for model, loss in zip(models, losses[-1], strict=True):
            model.zero_grad()
            loss.backward()
        for parameters in zip(*(model.parameters() for model in models), strict=True):
            mean = sum(parameter.grad for parameter in parameters) / world_size
            for parameter in parameters:
                parameter.grad = mean.clone()
        for optimizer in optimizers:
            optimizer.step()
    return [
        {'losses': torch.stack([step[rank].detach() for step in losses]), **remembered(model)}
        for rank, model in enumerate(models)
    ]


@pytest.mark.parametrize('world_size', BROADCAST_BUFFERS)
@pytest.mark.parametrize('method', METHODS)
def test_processes_share_the_weights_and_nothing_else(method, world_size, trained):
    results = [torch.load(trained / f'{rank}_of_{world_size}.pth')[method] for rank in range(world_size)]
    for result, expected in zip(results, train_replicas(method, world_size), strict=True):
        assert_close(result, expected, 1e-8)
    first, *others = results
    parameters = [name for name, _ in SmallDetector(method).named_parameters()]
    windows = [name for name in first if name.endswith(('window.mean', 'window.var'))]
    assert bool(windows) == ('CBN' in method)
    for other in others:
        for name in parameters:
            assert torch.equal(other[name], first[name]), name
        for name in windows:
            assert not torch.allclose(other[name], first[name]), name
