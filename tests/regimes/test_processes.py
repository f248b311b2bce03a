"""DistributedDataParallel over gloo, with images of another number and size in each process.

Through MMEngine's wrapper and Runner: ``tests/tools/test_launch.py``.
"""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from tests.helpers import processes
from tests.helpers.norms import WINDOWED
from tests.helpers.small_detector import METHODS, STEPS, SmallDetector, detection_loss, images, train
from tests.helpers.snapshot import assert_nearly_same, snapshot

pytestmark = pytest.mark.slow

Results = list[dict[str, Tensor]]  # of one method, for each process
# MMEngine's setting with two processes, torch's default with three.
BROADCAST_BUFFERS = {2: False, 3: True}


def batch(step: int, rank: int) -> Tensor:
    """Return images whose number and size differ from process to process."""
    number, size = ((2, (40, 48)), (1, (56, 40)), (3, (40, 64)))[rank]
    return images(step, number, size, seed=rank).double()


def train_distributed(rank: int, world_size: int, folder: Path) -> None:
    """Train with one method after the other; write to ``folder`` what this process is left with."""
    results = {}
    for method in METHODS:
        model = SmallDetector(method).double()
        wrapper = DistributedDataParallel(model, broadcast_buffers=BROADCAST_BUFFERS[world_size])
        losses = train(wrapper, batches=(batch(step, rank) for step in range(STEPS)))
        results[method] = {'losses': torch.stack(losses), **snapshot(model)}
    torch.save(results, folder / f'{rank}_of_{world_size}.pth')


@pytest.fixture(scope='module')
def trained(tmp_path_factory) -> Path:
    """Train with all methods and numbers of processes; return where the results are."""
    folder = tmp_path_factory.mktemp('processes')
    for world_size in BROADCAST_BUFFERS:
        processes.run(train_distributed, world_size, folder, processes=world_size, limit=300)
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
        {'losses': torch.stack([step[rank].detach() for step in losses]), **snapshot(model)}
        for rank, model in enumerate(models)
    ]


@pytest.mark.parametrize('world_size', BROADCAST_BUFFERS)
@pytest.mark.parametrize('method', METHODS)
def test_processes_share_the_weights_and_nothing_else(method, world_size, trained):
    results = [torch.load(trained / f'{rank}_of_{world_size}.pth')[method] for rank in range(world_size)]
    for result, expected in zip(results, train_replicas(method, world_size), strict=True):
        assert_nearly_same(result, expected, 1e-8)
    first, *others = results
    parameters = [name for name, _ in SmallDetector(method).named_parameters()]
    windows = [name for name in first if name.endswith('window.flat')]
    assert bool(windows) == (method in WINDOWED)
    for other in others:
        for name in parameters:
            assert torch.equal(other[name], first[name]), name
        for name in windows:
            assert not torch.allclose(other[name], first[name]), name
